"""Downloads: whole files over HTTP that resume where they stopped, and that are what their publisher declared."""

import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import requests
from urllib3.exceptions import HTTPError

from .ledger import DownloadError, Entry, Ledger, bare, digest, verify

log = logging.getLogger(__name__)

#: Most bytes that are taken from the network at once.
CHUNK = 1 << 20

#: Seconds without an answer, or without a byte, after which a connection is given up.
TIMEOUT = (10.0, 60.0)

#: Seconds over which a connection must bring SLOWEST bytes a second: one that drips never runs into TIMEOUT.
PATIENCE, SLOWEST = 60.0, 256.0

#: Tries of one file, and seconds before the second one (doubled each time).
TRIES, BACKOFF = 6, 0.5

#: Answers that another try may change.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


class _InterruptedError(Exception):
    """The connection ended early; what came is kept."""


def fetch(
    href: str,
    target: Path,
    *,
    ledger: Ledger,
    size: int | None = None,
    checksum: str | None = None,
    report: Callable[[int], None] | None = None,
) -> Entry:
    """Fetch one file, unless the ledger knows it as finished.

    Bytes go to ``<target>.part``, which a later call continues (HTTP ranges, RFC 9110 section 14; ``If-Range`` keeps a
    file that has changed meanwhile from being patched together). The file gets its name only once its size and
    checksum have been verified.

    Parameters
    ----------
    href
        ``http(s)`` address.
    target
        File to write, inside the ledger's folder.
    ledger
        Where finished files are noted.
    size, checksum
        As declared: bytes, and multihash in hexadecimal.
    report
        Called with the number of new bytes, for progress.

    Raises
    ------
    DownloadError
        If it cannot be fetched, or its size or checksum is another than declared; nothing is then kept.
    """
    known = ledger.finished(target, href=href, checksum=checksum)
    if known is not None:
        return known
    with ledger.locked(target):
        ledger.refresh()  # another process may have fetched it meanwhile
        known = ledger.finished(target, href=href, checksum=checksum)
        return known or _fetch(href, target, ledger=ledger, size=size, checksum=checksum, report=report)


def _fetch(
    href: str,
    target: Path,
    *,
    ledger: Ledger,
    size: int | None,
    checksum: str | None,
    report: Callable[[int], None] | None,
) -> Entry:
    target.parent.mkdir(parents=True, exist_ok=True)
    part, note = target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.part.json")
    with requests.Session() as session:
        for attempt in range(TRIES):
            try:
                total = _transfer(session, href, part, note, limit=size, declared=checksum, report=report)
                break
            except (_InterruptedError, requests.ConnectionError, requests.Timeout) as error:
                if attempt == TRIES - 1:
                    raise DownloadError(
                        f"{href}: found no way to fetch it in {TRIES} tries ({' '.join(str(error).split())[:200]}); "
                        f"wanted the whole file; the same command goes on after {_length(part)} bytes"
                    ) from error
                log.info("%s: %s; trying again", href, error)
                time.sleep(BACKOFF * 2**attempt)
            except requests.RequestException as error:
                raise DownloadError(f"{href}: found an address that cannot be fetched ({error}); correct it") from error
    try:
        verified = verify(part, name=href, size=total if size is None else size, checksum=checksum)
    except DownloadError:
        part.unlink()  # whatever is wrong with it, more bytes do not mend it
        note.unlink(missing_ok=True)
        raise
    # Noted first: a kill between the two leaves a complete part, which costs one request and no bytes.
    status = part.stat()
    entry = Entry(
        href=bare(href), size=status.st_size, sha256=digest(part, "sha256"), verified=verified,
        modified=status.st_mtime_ns,
    )  # fmt: skip
    ledger.note(target, entry)
    part.replace(target)
    note.unlink(missing_ok=True)
    return entry


def _transfer(
    session: requests.Session,
    href: str,
    part: Path,
    note: Path,
    *,
    limit: int | None,
    declared: str | None,
    report: Callable[[int], None] | None,
) -> int | None:
    """Bring the missing bytes into ``part``; return the whole length if the server says it."""
    headers = {"Accept-Encoding": "identity"}
    validator, have = _validator(note, href), _length(part)
    # Without a validator the rest may be of another version, which only a declared checksum would show.
    if have and (validator or declared):
        headers["Range"] = f"bytes={have}-"
        if validator:
            headers["If-Range"] = validator
    with session.get(href, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code == 416 and have and have == _range_total(answer):
            return have
        if answer.status_code == 416:
            part.unlink(missing_ok=True)
            raise _InterruptedError("the server has fewer bytes than were kept")
        _require_success(answer, href)
        is_rest = answer.status_code == 206 and _range_start(answer) == have
        if answer.status_code == 206 and not is_rest:
            part.unlink(missing_ok=True)
            raise _InterruptedError("the server answered with another range than was asked for")
        start = have if is_rest else 0
        total = _range_total(answer) if is_rest else _content_length(answer)
        _remember(note, href, answer)
        with part.open("ab" if is_rest else "wb") as stream:
            written = start
            for block in _blocks(answer):
                stream.write(block)
                written += len(block)
                if report is not None:
                    report(len(block))
                if limit is not None and written > limit:
                    return total  # more than declared: no need to take all of it to refuse it
            stream.flush()
            os.fsync(stream.fileno())
        if total is not None and written < total:
            raise _InterruptedError(f"the connection ended after {written} of {total} bytes")
        return total


def _blocks(answer: requests.Response) -> Iterator[bytes]:
    """Yield what has come as soon as it has come: a block that is waited for is lost when the connection breaks."""
    since, came = time.monotonic(), 0
    try:
        while block := answer.raw.read1(CHUNK, decode_content=False):
            yield block
            came, seconds = came + len(block), time.monotonic() - since
            if seconds >= PATIENCE:
                if came < SLOWEST * seconds:
                    raise _InterruptedError(f"only {came} bytes came in {seconds:.3g} s")
                since, came = time.monotonic(), 0
    except (HTTPError, OSError) as error:
        raise _InterruptedError(str(error)) from error


def _require_success(answer: requests.Response, href: str) -> None:
    code = answer.status_code
    if code in (200, 206) and answer.headers.get("Content-Encoding", "identity") == "identity":
        return
    if code in _PASSING:
        raise _InterruptedError(f"the server answered {code}")
    if code in (401, 403):
        raise DownloadError(
            f"{href}: found answer {code}; wanted a file that is open to all; signed addresses (Planetary Computer) "
            "and logins are not supported: use another catalog, or download the files and give a catalog on disk"
        )
    raise DownloadError(f"{href}: found answer {code}; wanted the file; check the catalog's address")


def _remember(note: Path, href: str, answer: requests.Response) -> None:
    strong = answer.headers.get("ETag", "")
    validator = strong if strong.startswith('"') else answer.headers.get("Last-Modified")
    note.write_text(json.dumps({"href": bare(href), "validator": validator}), encoding="utf-8")


def _validator(note: Path, href: str) -> str | None:
    """Return the validator of the bytes that are kept, if they came from this address."""
    try:
        record = json.loads(note.read_text(encoding="utf-8"))
        return str(record["validator"]) if record["validator"] and record["href"] == bare(href) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _content_length(answer: requests.Response) -> int | None:
    text = answer.headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


def _range_start(answer: requests.Response) -> int | None:
    found = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _range_total(answer: requests.Response) -> int | None:
    found = re.search(r"/(\d+)$", answer.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
