"""Live readings on a terminal: one screen that is drawn in place, or plain lines where there is no terminal."""
