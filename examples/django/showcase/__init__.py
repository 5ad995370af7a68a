"""The Django project of the demo: settings, addresses and the WSGI entry point."""
