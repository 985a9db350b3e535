"""The serial port: its name, its users, how it is opened, lost and reopened."""
