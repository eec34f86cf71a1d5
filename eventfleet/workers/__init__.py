"""The processes of the fleet: Faust lives here and nowhere else."""
