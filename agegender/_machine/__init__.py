"""The process: its threads, forks, thread pools, devices, sessions and installation."""
