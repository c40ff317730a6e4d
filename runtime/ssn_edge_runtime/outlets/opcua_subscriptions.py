"""What subscriptions and single requests of OPC UA clients may cost: pace, number, memory, work."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from typing import Any

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.server.subscription_service import SubscriptionService

MOST_SUBSCRIPTIONS = 32
MOST_ITEMS = 1024
"""Of all clients together."""
MOST_EVENT_ITEMS = 32
MOST_EVENTS_WAIT = 1000
"""For each that subscribed to events; beyond, the oldest go, and numbers tell."""
MOST_VALUES_WAIT = 20
"""For each value that somebody subscribed to."""
MOST_UNACKNOWLEDGED = 2
"""Notifications kept to be sent again, for each subscription."""
FASTEST_MS = 50.0
SLOWEST_MS = 60_000.0
MOST_FIELDS = 64
MOST_CONDITIONS = 64
MOST_OPERANDS = 64
MOST_NODES = 1000
"""In one request."""
LARGEST_ANSWER = 2**22


def few(nodes: Sized) -> None:
    """Let a request through that names no more than `MOST_NODES`.

    Raises:
        ServiceError: It does.
    """
    if len(nodes) > MOST_NODES:
        raise ServiceError(ua.StatusCodes.BadTooManyOperations)


def not_too_large(sizes: Iterable[int]) -> None:
    """Let an answer through that is no larger than `LARGEST_ANSWER` bytes.

    A few bytes can ask a thousand times for the largest value there is.

    Raises:
        ServiceError: It is.
    """
    if sum(sizes) > LARGEST_ANSWER:
        raise ServiceError(ua.StatusCodes.BadResponseTooLarge)


def bound_pace(params: ua.CreateSubscriptionParameters) -> None:
    """Move a subscription's interval to where the server keeps up; one that is no number, too."""
    wanted = float(params.RequestedPublishingInterval)
    if not wanted >= FASTEST_MS:  # also for what is no number
        wanted = FASTEST_MS
    params.RequestedPublishingInterval = min(wanted, SLOWEST_MS)


def bound_items(service: SubscriptionService, params: ua.CreateMonitoredItemsParameters) -> None:
    """Bound what is subscribed to.

    Raises:
        ServiceError: It is too much, or its filter is none that is looked at.
    """
    items = params.ItemsToCreate
    few(items)
    events = [each for each in items if _is_event(each)]
    there = list(_items(service))
    of_events = sum(_is_event_item(each) for each in there)
    if len(there) + len(items) > MOST_ITEMS or of_events + len(events) > MOST_EVENT_ITEMS:
        raise ServiceError(ua.StatusCodes.BadTooManyMonitoredItems)
    for each in items:
        wanted = each.RequestedParameters
        wanted.QueueSize = _queue_size(wanted.QueueSize, is_event=_is_event(each))
        if _is_event(each):
            _check_event_filter(wanted.Filter)
        elif not isinstance(wanted.Filter, ua.DataChangeFilter):
            wanted.Filter = None


def bound_changes(service: SubscriptionService, params: ua.ModifyMonitoredItemsParameters) -> None:
    """Bound what a change makes wait, and keep the filters that were looked at."""
    few(params.ItemsToModify)
    events = {
        each.monitored_item_id
        for each in service.subscriptions[params.SubscriptionId]
        .monitored_item_srv._monitored_items.values()
        if _is_event_item(each)
    }  # fmt: skip
    for each in params.ItemsToModify:
        wanted = each.RequestedParameters
        wanted.Filter = None
        is_event = each.MonitoredItemId in events
        wanted.QueueSize = _queue_size(wanted.QueueSize, is_event=is_event)


def _items(service: SubscriptionService) -> Iterable[Any]:
    for each in service.subscriptions.values():
        yield from each.monitored_item_srv._monitored_items.values()


def _is_event(item: ua.MonitoredItemCreateRequest) -> bool:
    return bool(item.ItemToMonitor.AttributeId == ua.AttributeIds.EventNotifier)


def _is_event_item(item: Any) -> bool:
    return bool(item.read_value_id.AttributeId == ua.AttributeIds.EventNotifier)


def _queue_size(wanted: int, *, is_event: bool) -> int:
    if is_event:
        return MOST_EVENTS_WAIT if wanted == 0 else min(wanted, MOST_EVENTS_WAIT)
    return min(max(wanted, 1), MOST_VALUES_WAIT)


def _check_event_filter(filter_: object) -> None:
    """A filter is worked through for each event: a tree, and no large one.

    Raises:
        ServiceError: It is none.
    """
    if not isinstance(filter_, ua.EventFilter):
        raise ServiceError(ua.StatusCodes.BadMonitoredItemFilterInvalid)
    conditions = filter_.WhereClause.Elements or []
    if len(filter_.SelectClauses or []) > MOST_FIELDS or len(conditions) > MOST_CONDITIONS:
        raise ServiceError(ua.StatusCodes.BadMonitoredItemFilterInvalid)
    named: set[int] = set()
    for number, each in enumerate(conditions):
        operands = each.FilterOperands or []
        if len(operands) > MOST_OPERANDS:
            raise ServiceError(ua.StatusCodes.BadMonitoredItemFilterInvalid)
        for operand in operands:
            if not isinstance(operand, ua.ElementOperand):
                continue
            # Named twice, it is worked through twice, and what it names four times, ...
            if operand.Index <= number or operand.Index in named:
                raise ServiceError(ua.StatusCodes.BadMonitoredItemFilterInvalid)
            named.add(operand.Index)
