"""One HTTP exchange: decide, look up, capture. Does no I/O and knows no transport.

`handle` answers at once wherever nothing has to be awaited; only a lookup makes it return a Pending.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import assert_never

import structlog

from ai_cache_extproc.cache.admission import Admitted, admit
from ai_cache_extproc.cache.collection import Collection
from ai_cache_extproc.cache.flights import Turn
from ai_cache_extproc.cache.gates import is_upstream_error
from ai_cache_extproc.cache.understanding import understand
from ai_cache_extproc.cache.weighing import weigh
from ai_cache_extproc.config.snapshot import Snapshot
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.extproc import modes, replies, telling
from ai_cache_extproc.extproc.asking import Asking
from ai_cache_extproc.extproc.events import (
    ConfiguredModes,
    Echo,
    Event,
    Modes,
    Part,
    Pending,
    Reply,
    RequestBody,
    RequestHeaders,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from ai_cache_extproc.extproc.headers import labelling_of
from ai_cache_extproc.extproc.phases import Phase, allowed, step
from ai_cache_extproc.extproc.replies import ACKS
from ai_cache_extproc.extproc.services import Services
from ai_cache_extproc.extproc.situations import Capturing, Done, Forwarded, Opened, Passing, Reading, Situation
from ai_cache_extproc.extproc.story import Story
from ai_cache_extproc.model import Bypass, Hit, Miss, Question, Reason, Wanted

log = structlog.get_logger()

# Reasons that may be gone with the next answer: nobody is told not to wait for it.
_PASSING_REASONS = frozenset({Reason.STATUS, Reason.CAPTURE_BUDGET, Reason.QUEUE_FULL})


class Exchange:
    """Fed with events in Envoy's order by one transport; `close` ends it whenever the stream ends."""

    def __init__(self, snapshot: Snapshot, services: Services, named: str = "") -> None:
        """named: the rule that Envoy's route names; any other rule is then out of the question."""
        self._snapshot = snapshot
        self._labels = labelling_of(snapshot)
        self._services = services
        self._named = named
        self._phase = Phase.OPENED
        self._situation: Situation = Opened()
        self._configured = ConfiguredModes()
        self._story = Story(services.metrics, services.spans)

    @property
    def phase(self) -> Phase:
        """Where this exchange is in its life."""
        return self._phase

    @property
    def wanted(self) -> Wanted:
        """What the request's headers are to come with."""
        return self._snapshot.wanted

    @property
    def answered(self) -> bool:
        """Whether the client has its answer from the cache: Envoy shows nothing more of this exchange."""
        return self._phase is Phase.ANSWERED

    def handle(self, event: Event) -> Reply | Pending:
        """The reply to an event. Raises ProtocolViolation for one that the phase table does not hold."""
        situation = self._situation
        match event:
            case ResponseBody() if type(situation) is Capturing:
                return self._collect(situation, event)
            case RequestHeaders() if type(situation) is Opened:
                return self._open(event)
            case RequestBody() if type(situation) is Reading:
                return self._read(situation, event)
            case ResponseHeaders() if type(situation) is Forwarded:
                return self._weigh(situation, event)
            case ResponseHeaders() if type(situation) is Passing:
                return self._label(situation, event)
            case ResponseTrailers() if type(situation) is Capturing:
                return self._finish_at_trailers(situation, event)
            case _:
                return self._let_pass(event)

    def give_up(self, event: Event) -> Reply:
        """Let this part and all that follow pass, whatever the phase: the way out of a fault of our own."""
        self._release()
        self._phase, self._situation = Phase.PASSING, Passing()
        return self._ack(event)

    def close(self) -> None:
        """The stream ended, which says nothing about the answer. Idempotent."""
        if type(self._situation) is Capturing:
            self._story.not_kept(Reason.CUT)
        self._release()
        self._situation = Done()
        self._story.tell()
        self._story.result = None

    # The request.

    def _open(self, event: RequestHeaders) -> Reply:
        self._story.begin(event.caller)
        self._configured = event.configured or ConfiguredModes()
        telling.static_modes(self._services.told, self._configured)
        if modes.is_duplex(self._configured):
            return self._pass(event, Passing())
        admitted = admit(
            event.head,
            end_of_stream=event.end_of_stream,
            snapshot=self._snapshot,
            dialects=self._services.dialects,
            named=self._named,
        )
        match admitted:
            case Admitted():
                self._story.about(dialect=admitted.dialect.name, rule=admitted.rule.name, cluster=event.head.cluster)
                telling.caller(self._services.metrics, admitted)
                self._move(event.part, Phase.READING, Reading(admitted))
                return modes.to_read(self._configured)
            case Bypass(only_if_cached=True):
                return self._unanswered(event, admitted)
            case Bypass():
                self._story.bypass(admitted)
                if self._named and admitted.reason is Reason.NO_RULE:
                    telling.unknown_rule(self._services.told, self._named)
                self._move(event.part, Phase.PASSING, Passing(admitted))
                return modes.ONLY_LABEL
            case None:
                self._move(event.part, Phase.PASSING, Passing())
                return modes.UNTOUCHED
            case _:
                assert_never(admitted)

    def _read(self, reading: Reading, event: RequestBody) -> Reply | Pending:
        reading.size_bytes += len(event.chunk)
        if reading.size_bytes > self._snapshot.config.limits.request_bytes_max:
            return self._bypass(event, Bypass(Reason.REQUEST_TOO_LARGE))
        reading.chunks.append(event.chunk)
        if not event.end_of_stream:
            if modes.arrives_in_chunks(self._configured):
                self._move(event.part, Phase.READING, reading)
                return ACKS[event.part]
            return self._bypass(event, Bypass(Reason.PARTIAL_BODY))
        admitted = reading.admitted
        try:
            question = understand(admitted, b"".join(reading.chunks), self._snapshot.config.limits)
        except DialectError as error:
            return self._bypass(event, Bypass(Reason(error.reason)))
        reading.chunks.clear()
        self._story.asked(question)
        identity = self._services.pipeline.identify(admitted, question)
        if isinstance(identity, Bypass):
            return self._bypass(event, identity)
        if admitted.wish.refresh:
            return self._forward(event, question, admitted, Miss(identity))
        hit = self._services.pipeline.near(admitted, question, identity)
        if hit is not None and not hit.due:
            return self._answer(event, hit)
        conclude = partial(self._conclude, event, admitted, question)
        asking = Asking(self._snapshot.config, self._services, self._story, reading, question, conclude=conclude)
        return asking.look_up(identity) if hit is None else asking.go_ahead(hit)

    def _conclude(
        self, event: RequestBody, admitted: Admitted, question: Question, outcome: Hit | Miss | Bypass
    ) -> Reply:
        match outcome:
            case Hit():
                return self._answer(event, outcome)
            case Miss():
                return self._forward(event, question, admitted, outcome)
            case Bypass():
                return self._bypass(event, outcome)
            case _:
                assert_never(outcome)

    def _answer(self, event: RequestBody, hit: Hit) -> Reply:
        self._story.hit(hit, self._snapshot.tariffs.of(hit.entry.model))
        self._move(event.part, Phase.ANSWERED, Done())
        return replies.hit(hit, self._story.rule, self._labels)

    def _forward(self, event: RequestBody, question: Question, admitted: Admitted, miss: Miss) -> Reply:
        if admitted.wish.only_if_cached:
            return self._unanswered(event, replace(miss, reason=miss.reason or Reason.ONLY_IF_CACHED))
        self._story.miss(miss)
        self._move(event.part, Phase.FORWARDED, Forwarded(admitted, question, miss, self._services.monotonic()))
        return ACKS[event.part]

    def _bypass(self, event: Event, bypass: Bypass) -> Reply:
        if type(self._situation) is Reading and self._situation.admitted.wish.only_if_cached:
            return self._unanswered(event, bypass)
        self._story.bypass(bypass)
        return self._pass(event, Passing(bypass))

    def _unanswered(self, event: Event, outcome: Miss | Bypass) -> Reply:
        """Ask nobody: the client wants a kept answer or none, also where the cache does not work."""
        if isinstance(outcome, Miss):
            self._story.miss(outcome)
        else:
            self._story.bypass(outcome)
        self._move(event.part, Phase.ANSWERED, Done())
        return replies.unanswered(outcome, self._story.rule, self._labels)

    # The answer.

    def _weigh(self, forwarded: Forwarded, event: ResponseHeaders) -> Reply | Pending:
        """Decide from the answer's headers whether it is collected, and label it."""
        if forwarded.miss.stale and is_upstream_error(event.head):
            return Pending(None, lambda: self._save(forwarded, event))
        return self._judge(forwarded, event)

    async def _save(self, forwarded: Forwarded, event: ResponseHeaders) -> Reply:
        """Answer in the place of an upstream that failed, if the store still has something to answer with."""
        budget = self._snapshot.config.lookup
        hit = await self._services.pipeline.stale(forwarded.admitted, forwarded.question, forwarded.miss, budget=budget)
        if hit is None:
            return self._judge(forwarded, event)
        self._refuse(forwarded, Reason.STATUS)
        self._story.saved(hit)
        self._move(event.part, Phase.ANSWERED, Done())
        return replies.hit(hit, self._story.rule, self._labels)

    def _judge(self, forwarded: Forwarded, event: ResponseHeaders) -> Reply:
        collection = self._collection(forwarded, event)
        if isinstance(collection, Reason):
            self._refuse(forwarded, collection)
            self._move(event.part, Phase.PASSING, Passing())
            return self._labelled(forwarded, event, collection, modes.ANSWER_UNSEEN)
        self._move(event.part, Phase.CAPTURING, Capturing(forwarded, collection))
        return self._labelled(forwarded, event, forwarded.miss.reason, modes.to_collect(self._configured))

    def _labelled(self, forwarded: Forwarded, event: ResponseHeaders, reason: Reason | None, override: Modes) -> Reply:
        return replies.labelled_miss(
            event.part,
            forwarded.miss,
            refresh=forwarded.admitted.wish.refresh,
            reason=reason,
            status=event.head.status,
            rule=self._story.rule,
            labels=self._labels,
            override=override,
        )

    def _collection(self, forwarded: Forwarded, event: ResponseHeaders) -> Collection | Reason:
        limits, question = self._snapshot.config.limits, forwarded.question
        answer = weigh(forwarded.admitted, question, event.head, end_of_stream=event.end_of_stream, limits=limits)
        if isinstance(answer, Reason):
            return answer
        return Collection(answer, self._services.budget, capture_bytes_max=limits.capture_bytes_max)

    def _collect(self, capturing: Capturing, event: ResponseBody) -> Reply:
        try:
            whole = capturing.collection.feed(event.chunk, end_of_stream=event.end_of_stream)
        except DialectError as error:
            return self._not_kept(capturing, event, Reason(error.reason), Phase.PASSING)
        if whole:
            return self._settle(capturing, event)
        if event.end_of_stream:
            return self._not_kept(capturing, event, Reason.CUT, Phase.SETTLED)
        self._phase = step(self._phase, event.part, Phase.CAPTURING)
        return ACKS[event.part]

    def _finish_at_trailers(self, capturing: Capturing, event: ResponseTrailers) -> Reply:
        if capturing.collection.end():
            return self._settle(capturing, event)
        return self._not_kept(capturing, event, Reason.CUT, Phase.SETTLED)

    def _settle(self, capturing: Capturing, event: ResponseBody | ResponseTrailers) -> Reply:
        """The answer is whole: hand it over, and the lease with it."""
        forwarded, collection = capturing.forwarded, capturing.collection
        collection.close()
        if not self._services.pipeline.fill(
            forwarded.admitted,
            forwarded.question,
            forwarded.miss,
            collection.capture,
            elapsed_s=self._services.monotonic() - forwarded.since_s,
            tags=collection.tags,
            understood=partial(self._story.understood, self._snapshot.tariffs.of(forwarded.question.model)),
        ):
            return self._not_kept(capturing, event, Reason.QUEUE_FULL, Phase.SETTLED)
        self._story.handed_over = True
        self._move(event.part, Phase.SETTLED, Done())
        return ACKS[event.part]

    def _not_kept(self, capturing: Capturing, event: Event, reason: Reason, target: Phase) -> Reply:
        capturing.collection.close()
        self._refuse(capturing.forwarded, reason)
        self._move(event.part, target, Passing() if target is Phase.PASSING else Done())
        return replies.not_kept(event.part, reason, self._story.rule)

    def _refuse(self, forwarded: Forwarded, reason: Reason) -> None:
        """Give up on keeping this answer. After a cut the next who waits asks again; any other reason would come back."""
        self._story.not_kept(reason)
        lease = forwarded.miss.lease
        if lease is None:
            return
        if reason is Reason.CUT:
            self._services.pipeline.leave(lease)
        else:
            self._services.pipeline.refuse(lease, remember=reason not in _PASSING_REASONS)

    # What is let through.

    def _label(self, passing: Passing, event: ResponseHeaders) -> Reply:
        self._move(event.part, Phase.PASSING, passing)
        if passing.bypass is None:
            return self._ack(event)
        return replies.labelled_bypass(event.part, passing.bypass, self._story.rule, self._labels)

    def _let_pass(self, event: Event) -> Reply:
        """A part that asks nothing of us here: stay where the table allows it, or stop being interested."""
        if self._phase in allowed(self._phase, event.part):
            self._move(event.part, self._phase, self._situation)
            return self._ack(event)
        if type(self._situation) is Reading and type(event) is ResponseHeaders:
            return self._never_read(event)
        return self._pass(event, Passing())

    def _never_read(self, event: ResponseHeaders) -> Reply:
        """An answer before the request's body: Envoy made it itself, or did not follow our override."""
        self._services.metrics.override_ignored()
        bypass = Bypass(Reason.PROTOCOL)
        self._story.bypass(bypass)
        self._move(event.part, Phase.PASSING, Passing(bypass))
        return self._label(Passing(bypass), event)

    def _pass(self, event: Event, passing: Passing) -> Reply:
        self._move(event.part, Phase.PASSING, passing)
        return self._ack(event)

    def _ack(self, event: Event) -> Reply:
        """The empty reply to a part; a full-duplex body has to be given back instead."""
        if isinstance(event, RequestBody | ResponseBody) and modes.is_echoed(self._configured, event.part):
            return Echo(event.part, event.chunk, event.end_of_stream)
        return ACKS[event.part]

    # Book-keeping.

    def _move(self, part: Part, phase: Phase, situation: Situation) -> None:
        self._phase = step(self._phase, part, phase)
        self._situation = situation

    def _release(self) -> None:
        """Give back what this exchange holds; after it another may hold it."""
        situation = self._situation
        turn: Turn | None = None
        if type(situation) is Reading:
            turn = situation.turn
        elif type(situation) is Forwarded:
            turn = situation.miss.lease
        elif type(situation) is Capturing:
            situation.collection.close()
            turn = situation.forwarded.miss.lease
        if turn is not None:
            self._services.pipeline.leave(turn)
