"""Messages, and the words of the decoder for them."""

OXYGEN = "01 04 0E 41 A3 02 0C 4F 78 79 67 65 6E 25 00 00 00"
IN_WORDS = "I1 Oxygen 20.376 %, I2 CO 0.084 %, I3 CO{} 0.25 %, E1 0.0 mA, E2 0.0 mA"
BROADCAST = "broadcast: " + IN_WORDS.format("2")
