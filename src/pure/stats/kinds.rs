//! The kinds of what is counted, and what they are called.

use crate::pure::pool::policy::Refusal;

/// An enumeration whose variants have names for labels.
macro_rules! kinds {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $label:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// What it is called in labels and fields.
            pub const fn name(self) -> &'static str {
                match self {
                    $($name::$variant => $label,)*
                }
            }
        }
    };
}

kinds! {
    /// What is counted without a reason.
    Count {
        /// Requests of which something was sent.
        Requests = "requests",
        /// Bytes sent to the server.
        Sent = "sent",
        /// Bytes received from it.
        Received = "received",
        /// Connections that were made.
        Opened = "opened",
        /// Requests that took a connection of the pool.
        Reused = "reused",
        /// Tries here after another server had failed, or had no room.
        NextTries = "next_tries",
        /// Tries with a server that the same request was sent to just before.
        Repeated = "repeated",
        /// Answers that came before all of the request was sent.
        EarlyAnswers = "early_answers",
        /// Requests whose client left while they were served.
        ClientGone = "client_gone",
        /// Requests whose client left before the server had answered.
        WorkedInVain = "worked_in_vain",
        /// Requests answered with 431.
        VarsRefused = "vars_refused",
        /// Interim responses (1xx).
        Interim = "interim",
        /// Attempts to connect that found the listen queue full.
        ListenQueueFull = "listen_queue_full",
        /// How often the server became unavailable.
        Unavailable = "unavailable",
        /// How many tries failed.
        Fails = "fails",
        /// Responses whose head was read.
        Responses = "responses",
    }
}

kinds! {
    /// How a try failed.
    Failure {
        /// Nobody listens there (ECONNREFUSED).
        Refused = "refused",
        /// There is no such socket (ENOENT).
        NoSocket = "no_socket",
        /// The worker may not connect to the socket (EACCES, EPERM).
        Permission = "permission",
        /// Connecting took too long.
        ConnectTimeout = "connect_timeout",
        /// Connecting failed in another way.
        ConnectError = "connect_error",
        /// The server took too little of the request for too long.
        SendTimeout = "send_timeout",
        /// The server sent nothing for too long.
        ReadTimeout = "read_timeout",
        /// The connection was reset before an answer.
        Reset = "reset",
        /// The connection was closed before an answer.
        ClosedEarly = "closed_early",
        /// The head of the response is none.
        InvalidHead = "invalid_head",
        /// The head of the response is larger than `rs_uwsgi_buffer_size`.
        HeadTooBig = "head_too_big",
        /// The response ended before its end.
        CutShort = "cut_short",
        /// The chunks of the response are none.
        InvalidBody = "invalid_body",
        /// Anything else.
        Other = "other",
    }
}

kinds! {
    /// Why a connection was closed: after its request ([`Refusal`]), or in the pool.
    Closed {
        /// [`Refusal::Off`].
        Off = "off",
        /// [`Refusal::NotShared`].
        NotShared = "not_shared",
        /// [`Refusal::Exiting`].
        Exiting = "exiting",
        /// [`Refusal::Failed`].
        Failed = "failed",
        /// [`Refusal::RequestNotWritten`].
        RequestNotWritten = "request_not_written",
        /// [`Refusal::LengthNotOurs`].
        LengthNotOurs = "length_not_ours",
        /// [`Refusal::Head`].
        Head = "head",
        /// [`Refusal::NoResponse`].
        NoResponse = "no_response",
        /// [`Refusal::NotFinal`].
        NotFinal = "not_final",
        /// [`Refusal::SaidClose`].
        SaidClose = "said_close",
        /// [`Refusal::DidNotSayKeepAlive`].
        DidNotSayKeepAlive = "did_not_say_keepalive",
        /// [`Refusal::EndsByClose`].
        EndsByClose = "ends_by_close",
        /// [`Refusal::UncertainEnd`].
        UncertainEnd = "uncertain_end",
        /// [`Refusal::NotEnded`].
        NotEnded = "not_ended",
        /// [`Refusal::Surplus`].
        Surplus = "surplus",
        /// [`Refusal::TooManyRequests`].
        TooManyRequests = "too_many_requests",
        /// [`Refusal::TooOld`].
        TooOld = "too_old",
        /// [`Refusal::PlaceNeeded`].
        PlaceNeeded = "place_needed",
        /// In the pool: the server closed it.
        IdleClosed = "idle_closed",
        /// In the pool: the server sent bytes that nobody asked for.
        IdleData = "idle_data",
        /// In the pool: `rs_uwsgi_keepalive_timeout`.
        IdleTimeout = "idle_timeout",
        /// In the pool: the worker left.
        IdleExiting = "idle_exiting",
        /// In the pool: there were too many.
        IdleExcess = "idle_excess",
        /// In the pool: its server is gone.
        IdleGone = "idle_gone",
    }
}

impl Failure {
    /// Was there no connection?
    pub fn is_of_connecting(self) -> bool {
        use Failure::{ConnectError, ConnectTimeout, NoSocket, Permission, Refused};
        matches!(self, Refused | NoSocket | Permission | ConnectTimeout | ConnectError)
    }
}

impl From<Refusal> for Closed {
    fn from(refusal: Refusal) -> Closed {
        match refusal {
            Refusal::Off => Closed::Off,
            Refusal::NotShared => Closed::NotShared,
            Refusal::Exiting => Closed::Exiting,
            Refusal::Failed => Closed::Failed,
            Refusal::RequestNotWritten => Closed::RequestNotWritten,
            Refusal::LengthNotOurs => Closed::LengthNotOurs,
            Refusal::Head => Closed::Head,
            Refusal::NoResponse => Closed::NoResponse,
            Refusal::NotFinal => Closed::NotFinal,
            Refusal::SaidClose => Closed::SaidClose,
            Refusal::DidNotSayKeepAlive => Closed::DidNotSayKeepAlive,
            Refusal::EndsByClose => Closed::EndsByClose,
            Refusal::UncertainEnd => Closed::UncertainEnd,
            Refusal::NotEnded => Closed::NotEnded,
            Refusal::Surplus => Closed::Surplus,
            Refusal::TooManyRequests => Closed::TooManyRequests,
            Refusal::TooOld => Closed::TooOld,
            Refusal::PlaceNeeded => Closed::PlaceNeeded,
        }
    }
}

kinds! {
    /// How a request left the queue.
    QueueEnd {
        /// With a connection.
        Served = "served",
        /// It had waited for as long as it may.
        Timeout = "timeout",
        /// There was no room in the queue.
        Overflow = "overflow",
        /// It would have waited in vain.
        Expected = "expected",
        /// Its client left.
        ClientGone = "client_gone",
        /// Its server turned out to be gone, or it went to another.
        Failed = "failed",
    }
}

kinds! {
    /// Where a response came from, where there is a cache (`$upstream_cache_status`).
    CacheStatus {
        /// From the server: the cache had none.
        Miss = "miss",
        /// From the server, as `rs_uwsgi_cache_bypass` says.
        Bypass = "bypass",
        /// From the server: the cache had an old one.
        Expired = "expired",
        /// An old one, because the server failed.
        Stale = "stale",
        /// An old one, while it is made anew.
        Updating = "updating",
        /// An old one, which the server said is good.
        Revalidated = "revalidated",
        /// From the cache.
        Hit = "hit",
        /// From the server: it was asked for too seldom to be kept.
        Scarce = "scarce",
    }
}

kinds! {
    /// What is measured, in milliseconds but for the last.
    Measure {
        /// Time in the queue, of requests that waited.
        Queue = "queue",
        /// Time to connect, of connections that were made.
        Connect = "connect",
        /// Time to the head of the response.
        Header = "header",
        /// Time to the end of the response.
        Response = "response",
        /// Bytes of vars.
        VarsSize = "vars_size",
    }
}
