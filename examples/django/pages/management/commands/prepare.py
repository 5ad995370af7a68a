"""`manage.py prepare`: a data directory from nothing, or up to date again."""

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import BaseCommand, call_command


class Command(BaseCommand):
    """Makes the directories, the tables, the static files and the user demo (password demo)."""

    help = __doc__
    # Newer Django checks that the directories are there, which are made here.
    requires_system_checks = []

    def handle(self, *args, **options):
        for directory in (settings.UPLOADS, settings.FILE_UPLOAD_TEMP_DIR):
            directory.mkdir(parents=True, exist_ok=True)
        call_command("migrate", interactive=False, verbosity=0)
        call_command("collectstatic", interactive=False, verbosity=0)
        users = get_user_model().objects
        if not users.filter(username="demo").exists():
            users.create_user("demo", password="demo")
        self.stdout.write(f"{settings.DATA} is ready")
