"""What a run can run on: this process, processes of this machine, Ray."""
