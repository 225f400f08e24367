"""Jobs behind a web page, for Flask: the extension `Allcores`, a JSON API and a console. Needs `allcores[web]`.

    from flask import Flask
    from allcores.web import Allcores

    app = Flask(__name__)
    jobs = Allcores(app, tasks="tasks")

Nothing is started and nothing is opened by this: jobs are run by `allcores serve`, `allcores work` or
`flask --app app allcores work`, in a process of their own.
"""

from __future__ import annotations

try:
    from allcores.web.extension import Allcores, SubmittedJob
    from allcores.web.security import Role, User
    from allcores.web.standalone import check_address, create_app
except ModuleNotFoundError as error:
    if (error.name or "").split(".")[0] == "allcores":
        raise
    raise ModuleNotFoundError(
        f"allcores.web needs {error.name}: pip install 'allcores[web]'", name=error.name
    ) from error

__all__ = ["Allcores", "Role", "SubmittedJob", "User", "check_address", "create_app"]
