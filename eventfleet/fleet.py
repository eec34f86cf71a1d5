"""The roles of a fleet in a program of your own.

    from eventfleet.commands import event_service, load_settings
    from eventfleet.fleet import running_roles
    from parcels import parcels

    settings = load_settings()
    async with running_roles(settings, [parcels]), event_service(settings, parcels) as service:
        ...

On a file, which one process has, such a program is the whole fleet.
"""

from eventfleet.workers.worker import running_roles

__all__ = ["running_roles"]
