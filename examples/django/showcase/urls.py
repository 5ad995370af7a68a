"""The addresses that Django answers; nginx keeps /static/, /protected/ and the Flask sites."""

from django.contrib.auth import views as auth
from django.urls import path

from pages import views

urlpatterns = [
    path("", views.index, name="index"),
    path("form/", views.form, name="form"),
    path("login/", auth.LoginView.as_view(template_name="pages/login.html"), name="login"),
    path("logout/", auth.LogoutView.as_view(), name="logout"),
    path("members/", views.members, name="members"),
    path("upload/", views.upload, name="upload"),
    path("download/plain/<str:name>", views.download_plain, name="download-plain"),
    path("download/<str:name>", views.download, name="download"),
    path("api/time", views.api_time, name="api-time"),
    path("api/echo", views.api_echo, name="api-echo"),
    path("stream/", views.stream, name="stream"),
]
