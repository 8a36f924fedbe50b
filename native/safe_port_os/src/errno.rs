//! Names of error numbers.

/// Error numbers that are compared or made elsewhere.
pub use libc::{E2BIG, EACCES, EAGAIN, EBADF, EINVAL, EIO, EMSGSIZE, ENOENT, ENOMEM, EPIPE, ESRCH};

macro_rules! names {
    ($($number:ident $name:literal)*) => {
        /// The name of an error number in lower case, such as `enoent` (`errno(3)`); `None` if it has none that all
        /// systems share.
        pub fn name(number: i32) -> Option<&'static str> {
            match number {
                $(libc::$number => Some($name),)*
                _ => None,
            }
        }
    };
}

names! {
    EPERM "eperm"
    ENOENT "enoent"
    ESRCH "esrch"
    EINTR "eintr"
    EIO "eio"
    ENXIO "enxio"
    E2BIG "e2big"
    ENOEXEC "enoexec"
    EBADF "ebadf"
    ECHILD "echild"
    EAGAIN "eagain"
    ENOMEM "enomem"
    EACCES "eacces"
    EFAULT "efault"
    ENOTBLK "enotblk"
    EBUSY "ebusy"
    EEXIST "eexist"
    EXDEV "exdev"
    ENODEV "enodev"
    ENOTDIR "enotdir"
    EISDIR "eisdir"
    EINVAL "einval"
    ENFILE "enfile"
    EMFILE "emfile"
    ENOTTY "enotty"
    ETXTBSY "etxtbsy"
    EFBIG "efbig"
    ENOSPC "enospc"
    ESPIPE "espipe"
    EROFS "erofs"
    EMLINK "emlink"
    EPIPE "epipe"
    EDOM "edom"
    ERANGE "erange"
    EDEADLK "edeadlk"
    ENAMETOOLONG "enametoolong"
    ENOLCK "enolck"
    ENOSYS "enosys"
    ENOTEMPTY "enotempty"
    ELOOP "eloop"
    ENOMSG "enomsg"
    EIDRM "eidrm"
    EREMOTE "eremote"
    EPROTO "eproto"
    EBADMSG "ebadmsg"
    EOVERFLOW "eoverflow"
    EILSEQ "eilseq"
    EUSERS "eusers"
    ENOTSOCK "enotsock"
    EDESTADDRREQ "edestaddrreq"
    EMSGSIZE "emsgsize"
    EPROTOTYPE "eprototype"
    ENOPROTOOPT "enoprotoopt"
    EPROTONOSUPPORT "eprotonosupport"
    ESOCKTNOSUPPORT "esocktnosupport"
    EOPNOTSUPP "eopnotsupp"
    EPFNOSUPPORT "epfnosupport"
    EAFNOSUPPORT "eafnosupport"
    EADDRINUSE "eaddrinuse"
    EADDRNOTAVAIL "eaddrnotavail"
    ENETDOWN "enetdown"
    ENETUNREACH "enetunreach"
    ENETRESET "enetreset"
    ECONNABORTED "econnaborted"
    ECONNRESET "econnreset"
    ENOBUFS "enobufs"
    EISCONN "eisconn"
    ENOTCONN "enotconn"
    ESHUTDOWN "eshutdown"
    ETOOMANYREFS "etoomanyrefs"
    ETIMEDOUT "etimedout"
    ECONNREFUSED "econnrefused"
    EHOSTDOWN "ehostdown"
    EHOSTUNREACH "ehostunreach"
    EALREADY "ealready"
    EINPROGRESS "einprogress"
    ESTALE "estale"
    EDQUOT "edquot"
    ECANCELED "ecanceled"
    EOWNERDEAD "eownerdead"
    ENOTRECOVERABLE "enotrecoverable"
}
