"""The basis of all threads: clocks, locks, queues, signals, forks, the end of the process."""
