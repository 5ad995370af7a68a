"""The two forms of the site; its login form is Django's."""

from django import forms


class GuestbookForm(forms.Form):
    """A name and a few lines, sent with POST."""

    name = forms.CharField(max_length=80)
    message = forms.CharField(max_length=2000, widget=forms.Textarea(attrs={"rows": 4}))


class UploadForm(forms.Form):
    """One file of any size that nginx lets through."""

    file = forms.FileField(max_length=200)
