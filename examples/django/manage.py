#!/usr/bin/env python3
"""Django's command line for the showcase project (`manage.py prepare` readies a data directory)."""

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "showcase.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
