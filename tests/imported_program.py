"""Imports what a process of the program imports before it works, for processes to be forked."""

import eventfleet.cli
import eventfleet.cli.local_fleet
import eventfleet.log_files.loader
import eventfleet.runtime.event_services
import eventfleet.runtime.http_server
import eventfleet.stores.mongo
import eventfleet.web.application
import eventfleet.workers.worker  # noqa: F401
