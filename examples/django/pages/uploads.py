"""Uploads: hashed while they arrive, then renamed into place. Nothing is held in memory."""

import hashlib

from django.core.files.storage import FileSystemStorage
from django.core.files.uploadhandler import TemporaryFileUploadHandler
from django.conf import settings

from .models import Upload


class HashingUploadHandler(TemporaryFileUploadHandler):
    """Writes every upload to a temporary file, whatever its size, and notes its SHA-256."""

    def new_file(self, *args, **kwargs):
        super().new_file(*args, **kwargs)
        self.digest = hashlib.sha256()

    def receive_data_chunk(self, raw_data, start):
        self.digest.update(raw_data)
        return super().receive_data_chunk(raw_data, start)

    def file_complete(self, file_size):
        file = super().file_complete(file_size)
        file.sha256 = self.digest.hexdigest()
        return file


def storage():
    """Where uploads are kept; it finds a free name when one is taken."""
    return FileSystemStorage(location=settings.UPLOADS)


def store(file):
    """Moves a finished upload to its place and records it. Returns the record."""
    name = storage().save(file.name, file)
    return Upload.objects.create(name=name, size=file.size, sha256=file.sha256)
