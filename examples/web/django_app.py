"""Django, in one file: `gunicorn --workers 2 django_app:application`."""

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path
from heavy import count_primes

import allcores

# In a project this is settings.py, and the pool stands in the module of the views.
settings.configure(ALLOWED_HOSTS=["127.0.0.1"], ROOT_URLCONF=__name__, SECRET_KEY="not a secret: an example")
pool = allcores.Pool(2)


def primes(request: HttpRequest, limit: int) -> JsonResponse:
    """A request waits for its own call, for two seconds at most."""
    try:
        return JsonResponse({"limit": limit, "primes": pool.call(count_primes, [limit], timeout=2).result()})
    except allcores.TaskTimeout:
        return JsonResponse({"limit": limit, "error": "this takes longer than 2 s"}, status=503)


urlpatterns = [path("primes/<int:limit>", primes)]
application = get_wsgi_application()
