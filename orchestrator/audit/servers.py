"""What PostgreSQL and Redis themselves say of their accounts, held against the stack file."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from orchestrator.audit.findings import Finding, judged
from orchestrator.errors import OrchestratorError
from orchestrator.spec import Account

TIMEOUT_S = 5.0
# Names that a PostgreSQL server makes for itself begin with pg_.
ROLES = """
SELECT rolname, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls,
       rolpassword LIKE 'SCRAM-SHA-256$%' AS is_scram,
       ARRAY(SELECT b.rolname::text FROM pg_auth_members m JOIN pg_roles b ON b.oid = m.roleid
             WHERE m.member = a.oid) AS roles,
       (SELECT count(*) FROM pg_shdepend d WHERE d.refobjid = a.oid AND d.deptype = 'o') AS owned
FROM pg_authid a WHERE rolname !~ '^pg_'
"""
# Grants on tables, on columns, on schemas and on this database, with `public` for everybody.
GRANTS = """
SELECT coalesce(r.rolname, 'public') AS role, g.privilege_type AS right, g.thing, g.column
FROM (
  SELECT x.grantee, x.privilege_type, c.relname::text AS thing, '' AS column
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) x
  WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  UNION ALL
  SELECT x.grantee, x.privilege_type, c.relname::text, a.attname::text
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(a.attacl) x
  WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  UNION ALL
  SELECT x.grantee, x.privilege_type, 'schema ' || n.nspname, ''
  FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) x
  WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND x.privilege_type <> 'USAGE'
  UNION ALL
  SELECT x.grantee, x.privilege_type, 'database ' || d.datname, ''
  FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) x
  WHERE NOT d.datistemplate AND NOT (x.privilege_type = 'CONNECT' AND x.grantee <> 0)
) g LEFT JOIN pg_roles r ON r.oid = g.grantee
WHERE r.rolname IS DISTINCT FROM 'postgres' AND r.rolname !~ '^pg_' IS NOT FALSE
ORDER BY 1, 2, 3, 4
"""
POWERS = {
    "rolsuper": "superuser",
    "rolcreaterole": "may make roles",
    "rolcreatedb": "may make databases",
    "rolreplication": "may replicate",
    "rolbypassrls": "passes row security",
}


async def postgres(
    name: str,
    address: tuple[str, int],
    database: str,
    user: str,
    passwords: Sequence[str | None],
    accounts: Mapping[str, Account],
) -> list[Finding]:
    """Findings about each account, and those that nobody declared. Raises OrchestratorError."""
    import asyncpg

    async def ask(password: str | None) -> tuple[list[Any], list[Any], list[Any]]:
        host, port = address
        connection = await asyncpg.connect(
            host=host,
            port=port,
            database=database,
            user=user,
            password=password,
            ssl=False,
        )
        try:
            rules = "SELECT type, auth_method FROM pg_hba_file_rules"
            found = (
                await connection.fetch(ROLES),
                await connection.fetch(GRANTS),
                await connection.fetch(rules),
            )
            await connection.close()
        finally:
            connection.terminate()  # waits for nobody; nothing, if it is closed
        return found

    refused: Exception | None = None
    try:
        async with asyncio.timeout(TIMEOUT_S):
            for password in passwords:
                try:
                    roles, grants, rules = await ask(password)
                    break
                except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                    refused = error
            else:
                raise OrchestratorError(f"cannot ask {name}: {refused}")
    except OSError as error:
        raise OrchestratorError(f"cannot ask {name}: {_reason(error)}") from error
    held = _held(grants)
    attributes = {row["rolname"]: row for row in roles if row["rolname"] != user}
    found = []
    for role in {**accounts, **attributes, **held}:
        wrong = list(
            _role_faults(role, attributes.get(role), accounts.get(role), held.get(role, []))
        )
        text = ", ".join([*held.get(role, []), *attributes[role]["roles"]]) if not wrong else ""
        found.append(judged("3.1", f"{name}/{role}", wrong, text or "nothing"))
    weak = [
        f"{row['type']}: {row['auth_method']}"
        for row in rules
        if row["auth_method"] not in ("scram-sha-256", "reject")
    ]
    weak += [f"{row['rolname']}: its password is no SCRAM" for row in roles if not row["is_scram"]]
    text = (
        f"{len(rules)} rules of pg_hba, all scram-sha-256; {len(roles)} roles with SCRAM verifiers"
    )
    return [*found, judged("3.2", name, weak, text)]


def _held(grants: Iterable[Any]) -> dict[str, list[str]]:
    """Rights by role, columns of one table together, as the stack file writes them."""
    columns: dict[tuple[str, str, str], list[str]] = {}
    for row in grants:
        key = (row["role"], row["right"], row["thing"])
        columns.setdefault(key, []).extend([row["column"]] if row["column"] else [])
    found: dict[str, list[str]] = {}
    for (role, right, thing), names in columns.items():
        of = f" ({', '.join(sorted(names))})" if names else ""
        found.setdefault(role, []).append(f"{right} on {thing}{of}")
    return found


def _role_faults(
    role: str, attributes: Any, account: Account | None, held: list[str]
) -> Iterator[str]:
    declared = {_normal(each) for each in account.may} if account else set()
    if role == "public":
        yield from (f"everybody has {each}" for each in held)
        return
    if account is None:
        yield "an account that the stack file does not name"
    if attributes is None:
        yield "there is no such role"
        return
    yield from (text for key, text in POWERS.items() if attributes[key])
    if attributes["owned"]:
        yield f"owns {attributes['owned']} objects"
    has = {*held, *attributes["roles"]}
    yield from (f"has too much: {each}" for each in sorted(has - declared))
    yield from (f"lacks {each}" for each in sorted(declared - has))


def _normal(right: str) -> str:
    """`SELECT on t (b, a)` with its columns in order."""
    head, bracket, columns = right.partition(" (")
    if not bracket:
        return right
    return f"{head} ({', '.join(sorted(each.strip() for each in columns.rstrip(')').split(',')))})"


def _reason(error: Exception) -> str:
    """A timeout has no words of its own."""
    return str(error) or f"no answer within {TIMEOUT_S:g} s"


# -- Redis ---------------------------------------------------------------------------------

# What an entry of ACL LIST says of every account of ours.
GIVEN = frozenset({"on", "sanitize-payload", "resetchannels", "-@all"})


async def redis(
    name: str,
    address: tuple[str, int],
    user: str,
    passwords: Sequence[str | None],
    accounts: Mapping[str, Account],
) -> list[Finding]:
    """Findings about each user. Raises OrchestratorError."""
    from redis import RedisError
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    host, port = address
    client = Redis(
        host=host,
        port=port,
        username=user,
        password=passwords[0],
        retry=Retry(NoBackoff(), 0),
        driver_info=None,
        decode_responses=True,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            lines: list[str] = await client.acl_list()
    except (RedisError, OSError) as error:
        raise OrchestratorError(f"cannot ask {name}: {_reason(error)}") from error
    finally:
        await client.aclose()
    users = {line.split()[1]: line.split()[2:] for line in lines}
    found = []
    for each in {**accounts, **users}:
        wrong = list(_user_faults(users.get(each), accounts.get(each)))
        words = [word for word in users.get(each, []) if not word.startswith("#")]
        found.append(judged("3.3", f"{name}/{each}", wrong, " ".join(words)))
    return found


def _user_faults(words: list[str] | None, account: Account | None) -> Iterator[str]:
    if words is None:
        yield "there is no such user"
        return
    if account is None:
        if "off" not in words:
            yield "an account that the stack file does not name"
        return
    if "off" in words:
        yield "it is off"
    hashes = [word for word in words if word.startswith("#")]
    if len(hashes) != 1:
        yield f"it has {len(hashes)} passwords"
    has = {word for word in words if not word.startswith("#")} - GIVEN - {"off"}
    if "-@all" not in words:
        yield "it does not begin with no commands"
    yield from (f"has too much: {each}" for each in sorted(has - {*account.may}))
    yield from (f"lacks {each}" for each in sorted({*account.may} - has))
