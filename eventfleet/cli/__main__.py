from eventfleet.cli import main

main(prog_name="eventfleet")
