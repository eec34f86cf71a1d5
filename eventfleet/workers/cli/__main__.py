from eventfleet.workers.cli import main

main(prog_name="eventfleet")
