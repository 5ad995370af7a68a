"""What the site remembers besides Django's own users and sessions."""

from django.db import models


class Upload(models.Model):
    """A file below settings.UPLOADS. `size` is in bytes, `sha256` in hexadecimal."""

    name = models.CharField(max_length=255, unique=True)
    size = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)
    arrived = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-arrived", "-id"]
