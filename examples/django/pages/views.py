"""One view for each thing that a front end has to carry to an application and back."""

import json
import mimetypes
import os
import time
from urllib.parse import quote

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_safe
from django.views.decorators.vary import vary_on_headers

from .forms import GuestbookForm, UploadForm
from .models import Upload
from .uploads import storage, store

STREAM_PIECES = 5
STREAM_PAUSE = 0.3  # seconds


@require_safe
def index(request):
    """What is served here, and by whom."""
    return render(request, "pages/index.html")


def form(request):
    """A form that answers itself: POST body, CSRF cookie and token."""
    guestbook = GuestbookForm(request.POST or None)
    entry = guestbook.cleaned_data if guestbook.is_valid() else None
    return render(request, "pages/form.html", {"form": guestbook, "entry": entry})


@login_required
def members(request):
    """A page behind the login, with a counter that lives in the session."""
    visits = request.session["visits"] = request.session.get("visits", 0) + 1
    return render(request, "pages/members.html", {"visits": visits})


def upload(request):
    """Takes a file and lists those that are there."""
    chooser = UploadForm(request.POST or None, request.FILES or None)
    if chooser.is_valid():
        record = store(chooser.cleaned_data["file"])
        messages.success(request, f"{record.name}: {record.size} bytes arrived")
        return redirect("upload")
    return render(request, "pages/upload.html", {"form": chooser, "uploads": Upload.objects.all()})


@require_safe
def download(request, name):
    """Names the file and lets nginx send it (X-Accel-Redirect)."""
    record = get_object_or_404(Upload, name=name)
    kind = mimetypes.guess_type(record.name)[0] or "application/octet-stream"
    response = HttpResponse(content_type=kind)
    response["X-Accel-Redirect"] = settings.UPLOADS_INTERNAL_URL + quote(record.name)
    response["Content-Disposition"] = f"attachment; filename*=utf-8''{quote(record.name)}"
    return response


@require_safe
def download_plain(request, name):
    """Sends the file itself, every byte through uWSGI."""
    record = get_object_or_404(Upload, name=name)
    return FileResponse(storage().open(record.name), as_attachment=True, filename=record.name)


@require_GET
def api_time(request):
    """The time, as JSON."""
    return JsonResponse({"time": timezone.now().isoformat(), "process": os.getpid()})


def wants_page(request):
    """Whether a browser asks, in which a reader wants a way back."""
    return "text/html" in request.headers.get("Accept", "")


@csrf_exempt
@vary_on_headers("Accept")
def api_echo(request):
    """What arrived, as JSON: method, path, arguments, headers and a JSON body. In a page for browsers."""
    body = None
    if request.body:
        try:
            body = json.loads(request.body)
        except ValueError as error:
            return JsonResponse({"error": f"the body is not JSON: {error}"}, status=400)
    echo = {
        "method": request.method,
        "path": request.path,
        "args": dict(request.GET.lists()),
        "headers": dict(request.headers),
        "host": request.get_host(),
        "body": body,
    }
    if wants_page(request):
        text = json.dumps(echo, indent=2, ensure_ascii=False)
        return render(request, "pages/echo.html", {"echo": text})
    return JsonResponse(echo)


@require_safe
@vary_on_headers("Accept")
def stream(request):
    """A few lines with pauses between them; X-Accel-Buffering has nginx pass each on at once. For browsers they
    are the items of a list in a page."""

    def pieces():
        for number in range(1, STREAM_PIECES + 1):
            yield f"piece {number} of {STREAM_PIECES}, {timezone.now():%H:%M:%S.%f}\n"
            if number < STREAM_PIECES:
                time.sleep(STREAM_PAUSE)

    def page():
        before, after = render_to_string("pages/stream.html", request=request).split("<!-- pieces -->")
        yield before
        yield from (f"<li>{piece}" for piece in pieces())
        yield after

    content, kind = (page(), "html") if wants_page(request) else (pieces(), "plain")
    response = StreamingHttpResponse(content, content_type=f"text/{kind}; charset=utf-8")
    response["X-Accel-Buffering"] = "no"
    return response
