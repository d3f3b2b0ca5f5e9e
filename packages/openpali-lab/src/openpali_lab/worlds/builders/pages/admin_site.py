"""Django's admin, filled with made-up rows, as a server.

Run by a process of its own: Django is configured once for a whole process. The language is the one that the browser
asks for.
"""

from __future__ import annotations

import gettext
import importlib.util
import itertools
import json
import logging
import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import django
from django.conf import settings

APPS = (
    "admin",
    "auth",
    "contenttypes",
    "sessions",
    "messages",
    "staticfiles",
    "sites",
    "flatpages",
    "redirects",
    "humanize",
)
USERS = 140


def main(folder: Path, app: str = "", look: str = "{}") -> None:
    """Serve for ever; prints the address first. ``folder`` takes the database; ``app`` gives another look, by the
    settings ``look``, a JSON object.
    """
    logging.getLogger("django.request").setLevel(logging.ERROR)  # fonts of other hosts are not there
    settings.configure(
        DEBUG=True,
        SECRET_KEY="pages",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        INSTALLED_APPS=[*filter(None, [app]), *(f"django.contrib.{app}" for app in APPS)],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.locale.LocaleMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
            f"{__name__}.EverybodyIsAdmin",
        ],
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": folder / "rows.sqlite3"}},
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        STATIC_URL="/static/",
        SITE_ID=1,
        USE_TZ=True,
        **json.loads(look),
    )
    django.setup()
    from django.contrib.staticfiles.handlers import StaticFilesHandler
    from django.core.management import call_command
    from django.core.wsgi import get_wsgi_application

    call_command("migrate", verbosity=0)
    fill(random.Random(7))
    server = make_server("127.0.0.1", 0, StaticFilesHandler(get_wsgi_application()), handler_class=Quiet)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


class EverybodyIsAdmin:
    """Middleware: no log-in, but for pages with ``anonymous`` in their query."""

    def __init__(self, respond: Any) -> None:
        self.respond = respond

    def __call__(self, request: Any) -> Any:
        from django.contrib.auth.models import User

        if "anonymous" not in request.GET:
            request.user = User.objects.get(pk=1)
        return self.respond(request)


def sentences() -> dict[str, list[str]]:
    """Language -> texts of Django's own catalogues in it, without placeholders."""
    found: dict[str, list[str]] = {}
    root = Path(django.__file__).parent
    for file in sorted(root.glob("**/locale/*/LC_MESSAGES/django.mo")):
        with file.open("rb") as opened:
            catalogue: dict[Any, Any] = gettext.GNUTranslations(opened)._catalog  # type: ignore[attr-defined]
        texts = [
            t for t in catalogue.values() if isinstance(t, str) and "%" not in t and "\n" not in t and "<" not in t
        ]
        found.setdefault(file.parts[-3], []).extend(t for t in texts if 3 <= len(t) <= 90)
    return {language: texts for language, texts in found.items() if len(texts) > 40}


def fill(rng: random.Random) -> None:
    from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
    from django.contrib.auth.models import Group, Permission, User
    from django.contrib.contenttypes.models import ContentType
    from django.contrib.flatpages.models import FlatPage
    from django.contrib.redirects.models import Redirect
    from django.contrib.sites.models import Site
    from django.utils import timezone

    texts = sentences()
    words: Iterator[str] = (
        word.strip(".,:;!?()«»„“”\"'")
        for _ in itertools.count()
        for word in rng.choice(texts[rng.choice(list(texts))]).split()
    )
    now = timezone.now().replace(year=2025, month=6, day=5)
    User.objects.bulk_create(
        User(
            username=f"{next(words)[:20]}{rng.choice(['', '.', '_', '-'])}{i}",
            first_name=next(words).capitalize()[:30],
            last_name=next(words).capitalize()[:30],
            email=f"user{rng.randrange(10_000)}@example.{rng.choice(['org', 'com', 'net', 'de', 'fr'])}",
            is_staff=i == 0 or rng.random() < 0.3,
            is_superuser=i == 0,
            is_active=rng.random() < 0.9,
            date_joined=now - timedelta(hours=rng.randrange(20_000)),
            last_login=now - timedelta(minutes=rng.randrange(100_000)),
        )
        for i in range(USERS)
    )
    for i in range(30):
        group = Group.objects.create(name=f"{rng.choice(texts[rng.choice(list(texts))])[:60]} {i}")
        group.permissions.set(rng.sample(list(Permission.objects.all()), 8))
    for i in range(40):
        Site.objects.create(domain=f"{i}.example.org", name=next(words)[:40])
        Redirect.objects.create(site_id=1, old_path=f"/{i}/{next(words)[:40]}/", new_path=f"/{next(words)[:40]}/")
    pages = [text for language in sorted(texts) for text in rng.sample(texts[language], 2)]
    FlatPage.objects.bulk_create(
        FlatPage(url=f"/{i}/", title=title, content="\n".join(rng.sample(pages, 5)), template_name="")
        for i, title in enumerate(pages)
    )
    kind = ContentType.objects.get_for_model(User)
    for user in User.objects.all()[:25]:
        LogEntry.objects.create(
            user_id=1,
            content_type=kind,
            object_id=user.pk,
            object_repr=str(user),
            action_flag=rng.choice([ADDITION, CHANGE]),
            change_message=rng.choice(['[{"added": {}}]', '[{"changed": {"fields": ["email", "first_name"]}}]']),
        )


def _urls() -> list[Any]:
    from django.contrib import admin
    from django.contrib.auth.models import Permission, User
    from django.urls import include, path

    class Permissions(admin.ModelAdmin):  # type: ignore[misc]  # Django is not installed
        list_display = ("name", "content_type", "codename")
        list_filter = ("content_type",)
        search_fields = ("name",)

    admin.site.register(Permission, Permissions)
    users: Any = admin.site._registry[User]
    users.list_display = (*users.list_display, "is_active", "date_joined", "last_login")
    users.date_hierarchy = "date_joined"
    users.list_per_page = 40
    skins = [f"{app}.urls" for app in settings.INSTALLED_APPS if not app.startswith("django.")]
    own = [path("skin/", include(urls)) for urls in skins if importlib.util.find_spec(urls)]
    return [path("admin/", admin.site.urls), path("i18n/", _javascript_catalogue()), *own]


def _javascript_catalogue() -> Any:
    from django.views.i18n import JavaScriptCatalog

    return JavaScriptCatalog.as_view()


def __getattr__(name: str) -> Any:
    """``urlpatterns``, once Django is set up: it asks this module for them."""
    if name == "urlpatterns":
        globals()[name] = _urls()
        return globals()[name]
    raise AttributeError(name)
