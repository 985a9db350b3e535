"""Modbus RTU and Modbus ASCII: requests, replies, and the proof that they belong together."""
