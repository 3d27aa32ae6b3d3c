"""The tables of a store, and their rows.

requests   one a request: what the client was answered, and when
answers    one a row predicted or text generated: latency, batch, tokens, confidence, signals
feedback   what turned out to be true, and what was thought of the answer, by request and row
servers    memory, and requests that went unrecorded, now and then
models     what was served: the layout of its signals, its reference, its classes
captured   what a row held and was answered, where that is captured: captured.py

Format 1 had `labels` for `feedback`, and neither `captured` nor the columns of NEW. It is read, and upgraded when it is written.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

VERSION = 2
SCHEMA = """
create table requests (
  id text primary key, time real, route text, status integer, seconds real, answered integer
) without rowid;
create table answers (
  id text, row integer, time real, model text, version text, queue real, prefill real, decode real, fill real,
  prompt integer, generated integer, confidence real, prediction text, signals blob, primary key (id, row)
) without rowid;
create table feedback (
  id text, row integer, label text, subgroup text, rating integer, correction text, primary key (id, row)
) without rowid;
create table servers (server text, time real, memory integer, dropped integer, primary key (server, time)) without rowid;
create table models (
  name text, version text, layout text, reference blob, classes text, primary key (name, version)
) without rowid;
create index requests_by_time on requests (time);
"""
UPGRADE = """
alter table requests add column answered integer;
update requests set answered = (select count(*) from answers where answers.id = requests.id);
alter table labels rename to feedback;
alter table feedback add column rating integer;
alter table feedback add column correction text;
alter table models add column classes text;
"""
NEW = ("answered", "rating", "correction", "classes")  # columns since format 1
TABLES = ("requests", "answers", "feedback", "servers", "models")
OF_REQUESTS = ("answers", "feedback", "captured", "requests")


class Request(NamedTuple):
    """One request: its id, when it ended (seconds since 1970), its route and HTTP status, and of the answer seconds and rows."""

    id: str
    time: float
    route: str
    status: int
    seconds: float
    answered: int = 0


class Answer(NamedTuple):
    """One row predicted or text generated. Latencies are in seconds; what does not apply is None.

    queue       until the device began
    prefill     of a text, until its first token; of a row, the batch's computation
    decode      of a text, from the first token to the last
    fill        of a row, the share of its batch that was filled
    confidence  the top-1 probability; of a text the geometric mean of its tokens'
    prediction  the top-1 class by name
    signals     f32, as `Model.layout` has them
    """

    id: str
    row: int
    time: float
    model: str
    version: str
    queue: float | None = None
    prefill: float | None = None
    decode: float | None = None
    fill: float | None = None
    prompt: int | None = None
    generated: int | None = None
    confidence: float | None = None
    prediction: str | None = None
    signals: bytes | None = None


class Feedback(NamedTuple):
    """What came back of a row, each None if it did not.

    label       the name of the class that it turned out to be
    subgroup    that it is counted with
    rating      of the answer, 1 or -1
    correction  what the answer should have been
    """

    id: str
    row: int
    label: str | None = None
    subgroup: str | None = None
    rating: int | None = None
    correction: str | None = None


class Model(NamedTuple):
    """A model that is served.

    layout     {signal: count of its numbers}, in their order
    reference  as `to_bytes` wrote it
    classes    a classifier's, by name
    """

    name: str
    version: str
    layout: Mapping[str, int]
    reference: bytes | None
    classes: Sequence[str] = ()
