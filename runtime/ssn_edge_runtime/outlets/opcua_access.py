"""Who may do what at the OPC UA server: at each session, whatever channel it came by."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from time import monotonic
from typing import Any

from asyncua import Server, ua
from asyncua.common.utils import ServiceError
from asyncua.crypto.permission_rules import PermissionRuleset, User, UserRole
from asyncua.server.internal_server import InternalServer
from asyncua.server.internal_session import InternalSession

from ssn_edge_runtime.outlets.opcua_bounds import BoundedListener, server_limits
from ssn_edge_runtime.outlets.opcua_subscriptions import (
    MOST_EVENTS_WAIT,
    MOST_SUBSCRIPTIONS,
    MOST_UNACKNOWLEDGED,
    bound_changes,
    bound_items,
    bound_pace,
    few,
    not_too_large,
)
from ssn_edge_runtime.outlets.opcua_users import KnownUser, Role

MOST_CONNECTIONS = 32
SESSION_MS = 60_000.0
PENDING_S = 10.0
BYTES_A_REFERENCE = 120
"""About so many on the wire."""
WRONG_LOGINS = 5
WRONG_WINDOW_S = 10.0


class ChannelUser(User):  # type: ignore[misc]
    """Whoever a session belongs to, and whether the last request came encrypted."""

    is_encrypted = False


class ChannelRules(PermissionRuleset):  # type: ignore[misc]
    """Notes of each request by which channel it came; the session decides.

    Args:
        is_encrypted: Whether this channel's requests do.
    """

    def __init__(self, *, is_encrypted: bool) -> None:
        self._is_encrypted = is_encrypted

    def check_validity(self, user: ChannelUser, action_type: object, body: object) -> bool:
        """Note it."""
        user.is_encrypted = self._is_encrypted
        return True


class GuardedFront(Server):  # type: ignore[misc]
    """The server, whose channels note what came by them."""

    async def _setup_server_nodes(self) -> None:
        await super()._setup_server_nodes()
        for each in self._policies:
            is_encrypted = each.mode == ua.MessageSecurityMode.SignAndEncrypt
            each.permission_ruleset = ChannelRules(is_encrypted=is_encrypted)

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: It cannot be listened there.
        """
        self.limits = server_limits()
        await self._setup_server_nodes()
        await self.iserver.start()
        try:
            self.bserver = BoundedListener(self.iserver, *self._get_bind_socket_info(), self.limits)
            self.bserver.set_policies(self._policies)
            await self.bserver.start()
        except BaseException:
            await self.iserver.stop()
            raise


class Logins:
    """Checks names and passwords; after a few wrong ones, nobody's for a while.

    Args:
        users: By name.
        lets_anonymous: Whether whoever gives no name may read.
    """

    def __init__(self, users: dict[str, KnownUser], *, lets_anonymous: bool) -> None:
        self._users = users
        self._lets_anonymous = lets_anonymous
        self._wrong_s: list[float] = []

    def get_user(
        self,
        iserver: InternalServer,
        username: str | None = None,
        password: str | None = None,
        certificate: object = None,
    ) -> User | None:
        """The user, or None for nobody; `asyncua` asks."""
        if username is None:
            return ChannelUser(role=UserRole.Anonymous) if self._lets_anonymous else None
        now_s = monotonic()
        self._wrong_s = [each for each in self._wrong_s if now_s - each < WRONG_WINDOW_S]
        if len(self._wrong_s) >= WRONG_LOGINS:
            return None
        known = self._users.get(username)
        if known is None or not known.has_password(password or ""):
            self._wrong_s.append(now_s)
            return None
        is_operator = known.role is Role.OPERATOR
        role = UserRole.User if is_operator else UserRole.Anonymous
        return ChannelUser(role=role, name=username)


class GuardedSession(InternalSession):  # type: ignore[misc]
    """A client's session: it reads what is shown; an operator may call. Nobody writes or changes.

    The checks of the library hang on the channel, which a client may leave out.
    """

    def activate_session(
        self, params: ua.ActivateSessionParameters, peer_certificate: bytes | None
    ) -> ua.ActivateSessionResult:
        """Log in; a password that came in the clear is refused, even if it is right."""
        if not peer_certificate and isinstance(params.UserIdentityToken, ua.UserNameIdentityToken):
            raise ServiceError(ua.StatusCodes.BadIdentityTokenRejected)
        self.user = ChannelUser(role=UserRole.Anonymous)  # until the new login stands
        return super().activate_session(params, peer_certificate)

    def _require(self, *, call: bool = False) -> None:
        if not self.is_activated():
            raise ServiceError(ua.StatusCodes.BadSessionNotActivated)
        # A certificate alone is no encryption: a client may send one over an open channel.
        if call and not (self.user.role is UserRole.User and self.user.is_encrypted):
            raise ServiceError(ua.StatusCodes.BadUserAccessDenied)

    async def read(self, params: ua.ReadParameters) -> Any:
        """Read, after what is over was taken back."""
        self._require()
        few(params.NodesToRead)
        await self.iserver.before_read()
        values = await super().read(params)
        not_too_large(len(each.Value.Value) for each in values if _has_length(each))
        return values

    async def browse(self, params: ua.BrowseParameters) -> Any:
        """Look around."""
        self._require()
        few(params.NodesToBrowse)
        found = await super().browse(params)
        not_too_large(len(each.References) * BYTES_A_REFERENCE for each in found)
        return found

    async def translate_browsepaths_to_nodeids(self, params: list[ua.BrowsePath]) -> Any:
        """Look around."""
        self._require()
        few(params)
        return await super().translate_browsepaths_to_nodeids(params)

    async def call(self, params: list[ua.CallMethodRequest]) -> Any:
        """Call a method: operators alone."""
        self._require(call=True)
        return await super().call(params)

    async def create_subscription(
        self,
        params: ua.CreateSubscriptionParameters,
        callback: Callable[..., Any],
        request_callback: Callable[..., Any] | None = None,
    ) -> Any:
        """Subscribe."""
        self._require()
        bound_pace(params)
        return await super().create_subscription(params, callback, request_callback)

    async def create_monitored_items(self, params: ua.CreateMonitoredItemsParameters) -> Any:
        """Subscribe."""
        self._own(params.SubscriptionId)
        bound_items(self.subscription_service, params)
        return await super().create_monitored_items(params)

    async def modify_monitored_items(self, params: ua.ModifyMonitoredItemsParameters) -> Any:
        """Change how much waits; what is filtered stays."""
        self._own(params.SubscriptionId)
        bound_changes(self.subscription_service, params)
        return await super().modify_monitored_items(params)

    async def delete_monitored_items(self, params: ua.DeleteMonitoredItemsParameters) -> Any:
        """End a part of one's own subscription."""
        self._own(params.SubscriptionId)
        return await super().delete_monitored_items(params)

    async def set_monitoring_mode(self, params: ua.SetMonitoringModeParameters) -> Any:
        """Pause a part of one's own subscription."""
        self._own(params.SubscriptionId)
        return await super().set_monitoring_mode(params)

    async def set_publishing_mode(self, params: ua.SetPublishingModeParameters) -> Any:
        """Pause one's own subscriptions."""
        self._own(*params.SubscriptionIds)
        return await super().set_publishing_mode(params)

    def modify_subscription(self, params: ua.ModifySubscriptionParameters) -> Any:
        """Told what holds: it stays."""
        self._own(params.SubscriptionId)
        return super().modify_subscription(params)

    async def delete_subscriptions(self, ids: list[int]) -> Any:
        """End one's own subscriptions; all of them when the session is closed."""
        if self.is_activated():
            self._own(*ids)
        return await super().delete_subscriptions(ids)

    def publish(self, acks: Iterable[ua.SubscriptionAcknowledgement] | None = None) -> Any:
        """Ask for the next notifications of one's own subscriptions."""
        given = list(acks or ())
        self._own(*(each.SubscriptionId for each in given if self._is_there(each.SubscriptionId)))
        return super().publish(given)

    def republish(self, params: ua.RepublishParameters) -> Any:
        """Ask for one's own notifications again."""
        self._own(params.SubscriptionId)
        return super().republish(params)

    def _is_there(self, number: int) -> bool:
        return number in self.subscription_service.subscriptions

    def _own(self, *numbers: int) -> None:
        """Subscriptions are numbered in turn: whoever counts must not reach another's."""
        self._require()
        for each in numbers:
            found = self.subscription_service.subscriptions.get(each)
            if found is None or found.session_id != self.session_id:
                raise ServiceError(ua.StatusCodes.BadSubscriptionIdInvalid)

    async def write(self, params: ua.WriteParameters) -> Any:
        """Nobody writes."""
        raise ServiceError(ua.StatusCodes.BadUserAccessDenied)

    async def add_nodes(self, params: Any) -> Any:
        """Nobody changes what there is."""
        raise ServiceError(ua.StatusCodes.BadUserAccessDenied)

    delete_nodes = add_references = delete_references = add_nodes
    history_read = history_update = register_nodes = unregister_nodes = add_nodes
    transfer_subscriptions: Any = add_nodes


class GuardedServer(InternalServer):  # type: ignore[misc]
    """The inside of the server, whose clients' sessions are guarded and bounded."""

    def __init__(self, logins: Logins) -> None:
        self.before_read: Callable[[], Awaitable[None]] = _nothing
        super().__init__(user_manager=logins)
        self.allow_remote_admin = False
        self.max_connections = MOST_CONNECTIONS
        self.max_subscriptions = MOST_SUBSCRIPTIONS
        self.max_session_timeout_ms = SESSION_MS
        self.max_pending_activation_seconds = PENDING_S
        self.max_lifetime_count = 1000
        self.max_monitored_item_queue_size = MOST_EVENTS_WAIT
        self.max_unacked_messages_per_subscription = MOST_UNACKNOWLEDGED

    def create_session(
        self, name: str, user: User | None = None, external: bool = False
    ) -> InternalSession:
        """A session; a guarded one for a client."""
        if not external:
            return super().create_session(name, user=user or User(), external=False)
        return GuardedSession(
            self,
            self.aspace,
            self.subscription_service,
            name,
            user=ChannelUser(role=UserRole.Anonymous),
            external=True,
        )

    def register_server(self, server: Any, conf: Any = None) -> None:
        """Nobody puts a server of theirs onto the list that clients are told."""
        raise ServiceError(ua.StatusCodes.BadServiceUnsupported)

    def register_server2(self, params: Any) -> Any:
        """The same."""
        raise ServiceError(ua.StatusCodes.BadServiceUnsupported)

    def lookup_external_session(self, auth_token: ua.NodeId) -> None:
        """No other connection takes a session over: its number is easily guessed."""


def _has_length(value: ua.DataValue) -> bool:
    return value.Value is not None and isinstance(value.Value.Value, (str, bytes, list))


async def _nothing() -> None:
    pass
