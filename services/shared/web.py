"""A Flask app that answers errors as problem details, and reads JSON bodies as models."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from flask import Flask, Request, Response, jsonify, request
from flask.sessions import NullSession, SessionInterface
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter

from shared import log, metrics
from shared.bodies import unambiguous
from shared.database import NoDatabaseError
from shared.hops import FORWARDS_HEADER, NAME_HEADER, counted, stamp_us
from shared.problem import CONTENT_TYPE, Problem

if TYPE_CHECKING:
    from shared.checking import M

MAX_BODY_BYTES = 64 * 1024


class _NoSessions(SessionInterface):
    """A service has no sessions: to find that out for every request is in vain."""

    _none = NullSession()

    def open_session(self, *_: object) -> NullSession:
        return self._none


class _Answer(Response):
    """A response that is sent as it stands."""

    def get_wsgi_headers(self, environ: Any) -> Headers:
        """Not a copy: of 200 with a body of known length there is nothing to amend."""
        if self.status_code == 200 and "Content-Length" in self.headers:
            return self.headers
        return super().get_wsgi_headers(environ)


class _App(Flask):
    """Flask without what no request of a service needs: a third of what it takes for each."""

    session_interface = _NoSessions()
    response_class = _Answer

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """By method and path alone: a service has one host and no subdomains."""
        if request is None:
            return None
        where = (self.name, "/", "", "http", request.path, request.method)
        return MapAdapter(self.url_map, *where, query_args=request.environ["QUERY_STRING"])

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """As it is: no function of a service is a coroutine."""
        return func

    def make_default_options_response(self) -> Response:
        """With Max-Forwards (RFC 9110, 7.6.2): nobody behind us could pass it on."""
        if FORWARDS_HEADER in request.headers:
            return Response(status=204, headers={NAME_HEADER: self.name})
        return super().make_default_options_response()


def make_app(name: str) -> Flask:
    """An app with /health and nothing else yet."""
    log.configure()
    app = _App(name)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.wsgi_app = counted(name, app.wsgi_app, _route, metrics.serve(name))  # type: ignore[method-assign]

    @app.before_request
    def in_time() -> None:
        """Raises Problem 503 if nobody waits for the answer any more."""
        with suppress(ValueError):  # no stamp: from nobody who knows what it means
            if int(request.environ.get("HTTP_X_DEADLINE", "-")) < stamp_us():
                raise Problem(503, "this request waited for longer than its sender does")

    @app.get("/health")
    def health() -> Response:
        return jsonify(status="healthy", service=name)

    @app.errorhandler(Problem)
    def problem(error: Problem) -> Response:
        return answer(error)

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        headers = {key: value for key, value in error.get_headers() if key == "Allow"}
        return answer(Problem(error.code or 500, error.description or "", headers=headers))

    @app.errorhandler(NoDatabaseError)
    def no_database(error: NoDatabaseError) -> Response:
        app.logger.warning("database: %s", error)
        away = {"Retry-After": "1"}
        return answer(Problem(503, "the database does not answer", headers=away))

    @app.errorhandler(Exception)
    def bug(error: Exception) -> Response:
        app.logger.exception("unhandled", exc_info=error)
        return answer(Problem(500, "something went wrong on our side"))

    return app


def _route() -> str:
    """The rule that the request matched, never its path: labels must stay few."""
    return request.url_rule.rule if request.url_rule else "other"


def answer(problem: Problem) -> Response:
    """The problem as a response."""
    response = Response(problem.body(), problem.status, content_type=CONTENT_TYPE)
    response.headers.update(problem.headers)
    return response


def read_body(model: type[M]) -> M:
    """The request's JSON body. Raises Problem 400, 415 or 422."""
    from shared.checking import from_json

    if request.mimetype != "application/json":
        raise Problem(415, "the body must be application/json")
    return from_json(model, unambiguous(request.get_data()))


def read_query(model: type[M]) -> M:
    """The query string. Raises Problem 422, also for what could be read in two ways."""
    from shared.checking import from_values

    if twice := [name for name, values in request.args.lists() if len(values) > 1]:
        errors = [{"field": name, "message": "given more than once"} for name in twice]
        raise Problem(422, "the request is not valid", errors=errors)
    return from_values(model, request.args.to_dict() if request.query_string else {})
