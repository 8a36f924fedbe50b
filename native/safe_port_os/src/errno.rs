//! Error numbers and their names.

pub use libc::{
    E2BIG, EACCES, EAGAIN, EBADF, EINVAL, EIO, EMFILE, EMSGSIZE, ENOBUFS, ENOENT, ENOEXEC, ENOMEM, ENOSYS,
    ENOTDIR, EPERM, EPIPE, ESRCH, ETOOMANYREFS,
};

/// Names by number, as lower-case words.
macro_rules! names {
    ($($constant:ident $name:literal),* $(,)?) => {
        /// The name of an error number as Erlang writes it, such as `enoent`; `None` if it has none here.
        pub fn name(number: i32) -> Option<&'static str> {
            match number {
                $(libc::$constant => Some($name),)*
                _ => None,
            }
        }
    };
}

names! {
    E2BIG "e2big",
    EACCES "eacces",
    EADDRINUSE "eaddrinuse",
    EADDRNOTAVAIL "eaddrnotavail",
    EAFNOSUPPORT "eafnosupport",
    EAGAIN "eagain",
    EALREADY "ealready",
    EBADF "ebadf",
    EBADMSG "ebadmsg",
    EBUSY "ebusy",
    ECANCELED "ecanceled",
    ECHILD "echild",
    ECONNABORTED "econnaborted",
    ECONNREFUSED "econnrefused",
    ECONNRESET "econnreset",
    EDEADLK "edeadlk",
    EDESTADDRREQ "edestaddrreq",
    EDOM "edom",
    EDQUOT "edquot",
    EEXIST "eexist",
    EFAULT "efault",
    EFBIG "efbig",
    EHOSTUNREACH "ehostunreach",
    EIDRM "eidrm",
    EILSEQ "eilseq",
    EINPROGRESS "einprogress",
    EINTR "eintr",
    EINVAL "einval",
    EIO "eio",
    EISCONN "eisconn",
    EISDIR "eisdir",
    ELOOP "eloop",
    EMFILE "emfile",
    EMLINK "emlink",
    EMSGSIZE "emsgsize",
    ENAMETOOLONG "enametoolong",
    ENETDOWN "enetdown",
    ENETRESET "enetreset",
    ENETUNREACH "enetunreach",
    ENFILE "enfile",
    ENOBUFS "enobufs",
    ENODEV "enodev",
    ENOENT "enoent",
    ENOEXEC "enoexec",
    ENOLCK "enolck",
    ENOMEM "enomem",
    ENOMSG "enomsg",
    ENOSPC "enospc",
    ENOSYS "enosys",
    ENOTBLK "enotblk",
    ENOTCONN "enotconn",
    ENOTDIR "enotdir",
    ENOTEMPTY "enotempty",
    ENOTSOCK "enotsock",
    ENOTSUP "enotsup",
    ENOTTY "enotty",
    ENXIO "enxio",
    EOVERFLOW "eoverflow",
    EPERM "eperm",
    EPIPE "epipe",
    EPROTO "eproto",
    EPROTONOSUPPORT "eprotonosupport",
    ERANGE "erange",
    EROFS "erofs",
    ESPIPE "espipe",
    ESRCH "esrch",
    ESTALE "estale",
    ETIMEDOUT "etimedout",
    ETXTBSY "etxtbsy",
    EUSERS "eusers",
    EXDEV "exdev",
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn an_error_has_the_name_that_erlang_gives_it() {
        assert_eq!(name(libc::ENOENT), Some("enoent"));
        assert_eq!(name(libc::E2BIG), Some("e2big"));
        assert_eq!(name(libc::ENOEXEC), Some("enoexec"));
        assert_eq!(name(0), None);
        assert_eq!(name(-1), None);
    }
}
