"""Gets the result of a request whose first response does not contain it: polls an accepted request (202), and fetches a
result behind a redirect (302). All of it is part of one attempt; this module does not know the retry loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from attrs import define, evolve

from nimclient._base.config import Timeouts
from nimclient._base.log import log
from nimclient._base.types import Clock
from nimclient._base.values import HttpHead, HttpRequest, request_id_of
from nimclient._nvcf import platform as nvcf
from nimclient._retry.classify import classify
from nimclient._retry.retry_after import retry_after
from nimclient.errors import RequestTimeoutError, TransportError

if TYPE_CHECKING:
    from nimclient._http.base import Body, Transport

_ELSEWHERE = (302, 303)


@define
class Delivery:
    """Gets the result of one request. Times are monotonic seconds.

    `poll` builds the request that polls an id, with the key and headers allowed for its URL; `fetch` builds an
    unauthenticated one. `began` is when the request was sent: polling counts against
    the limit of `Timeouts.headers` from then on, and `deadline` is that of the whole call.
    """

    transport: Transport
    request: HttpRequest
    timeouts: Timeouts
    began: float
    deadline: float | None
    poll: Callable[[str, int], Awaitable[HttpRequest]]
    fetch: Callable[[str], HttpRequest]
    clock: Clock
    sleep: Callable[[float], Awaitable[None]]

    async def result(self, head: HttpHead, body: Body, *, follow: bool) -> tuple[HttpHead, Body]:
        """The response with the result. `follow`: whether the first response may redirect to it.

        A redirect that may not be followed is returned. Raises DecodeError for a 202 without an id,
        RequestTimeoutError("poll") at the time limit, TransportError; errors of polling have the request id.
        """
        request_id: str | None = None
        source = self.request.url
        if head.status == 202:
            request_id = nvcf.accepted_id(head.headers)
            if request_id is None:
                body.abort()
                raise nvcf.no_id(f"{self.request.method} {self.request.shown_url}")
            follow = True
        try:
            if request_id is not None:
                head, body, source = await self._poll_until_done(request_id, head, body)
            if follow and head.status in _ELSEWHERE:
                head, body = await self._fetch_result(source, head, body)
        except TransportError as error:
            error.request_id = request_id or error.request_id
            raise
        if request_id is not None:
            head = evolve(head, headers=head.headers.with_missing("nvcf-reqid", request_id))
        return head, body

    async def _poll_until_done(self, request_id: str, head: HttpHead, body: Body) -> tuple[HttpHead, Body, str]:
        """Poll until the response is not a 202; also returns the URL it came from.

        A server that supports long polling is polled again at once, any other after a delay.
        """
        request = self.request
        intervals = nvcf.poll_intervals()
        spent = 0.0
        while head.status == 202:
            request_id = nvcf.accepted_id(head.headers) or request_id
            delay = max(next(intervals) - spent, retry_after(head.headers) or 0.0)
            await body.finish()
            await self._wait(delay, request_id)
            asked = self.clock()
            seconds = nvcf.poll_seconds(self.request.headers)
            if (left := self._seconds_left()) is not None:
                seconds = max(min(seconds, int(left)), 1)
            request = await self.poll(request_id, seconds)
            log.debug("polling for the result of request %s", request_id)
            head, body = await self._open_repeatedly(request, nvcf.poll_ttl(seconds), request_id)
            spent = self.clock() - asked
        return head, body, request.url

    async def _fetch_result(self, source: str, head: HttpHead, body: Body) -> tuple[HttpHead, Body]:
        """The result from the address in the response if it may be followed, else the response itself."""
        address = nvcf.safe_redirect_target(source, head.headers.get("location"))
        if address is None:
            return head, body
        await body.finish()
        request_id = request_id_of(head.headers)
        fetched, body = await self._open_repeatedly(self.fetch(address), nvcf.MIN_POLL_TTL, request_id)
        headers = fetched.headers
        if request_id is not None:  # storage does not send it
            headers = headers.with_missing("nvcf-reqid", request_id)
        return evolve(fetched, headers=headers, unauthenticated=True), body

    async def _open_repeatedly(self, request: HttpRequest, ttl: float, request_id: str | None) -> tuple[HttpHead, Body]:
        """The response to a replay-safe request: transient failures are retried for `ttl` seconds.

        After that the platform has dropped the work, and the failure is left to the retry loop.
        """
        last_chance = self.clock() + ttl
        intervals = nvcf.poll_intervals()
        while True:
            delay = next(intervals)
            is_last = self.clock() + delay > last_chance
            left = self._seconds_left()
            timeouts = self.timeouts if left is None else evolve(self.timeouts, headers=max(left, 0.0))
            try:
                head, body = await self.transport.open(request, timeouts, self.deadline)
            except TransportError as error:
                if isinstance(error, RequestTimeoutError) and error.phase in ("headers", "total"):
                    raise self._timed_out(request_id) from error
                if is_last or not classify(error).retryable:
                    raise
            else:
                asked = retry_after(head.headers) or 0.0
                delay = max(delay, asked)
                if is_last or self.clock() + asked > last_chance or not nvcf.is_transient(head.status, head.headers):
                    return head, body
                body.abort()
            await self._wait(delay, request_id)

    async def _wait(self, seconds: float, request_id: str | None) -> None:
        left = self._seconds_left()
        await self.sleep(seconds if left is None else max(min(seconds, left), 0.0))
        if left is not None and seconds >= left:
            raise self._timed_out(request_id)

    def _seconds_left(self) -> float | None:
        """Seconds until the first of the two limits of polling; None without limits."""
        limits = [self.deadline] if self.deadline is not None else []
        if self.timeouts.headers is not None:
            limits.append(self.began + self.timeouts.headers)
        return min(limits) - self.clock() if limits else None

    def _timed_out(self, request_id: str | None) -> RequestTimeoutError:
        headers, total = self.timeouts.headers, self.timeouts.total
        by_total = self.deadline is not None and (headers is None or self.deadline < self.began + headers)
        limit, seconds = ("total", total) if by_total else ("headers", headers)
        problem = (
            f"timed out: the result of request {request_id} was not available within the {limit} limit of {seconds:g} s"
        )
        error = RequestTimeoutError(problem, phase="poll", seconds=seconds)
        error.request_id = request_id
        return error
