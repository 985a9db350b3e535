"""What threads rely on: clocks, locks, queues, signals, forks, the end of the process."""
