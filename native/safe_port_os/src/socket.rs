//! Stream sockets between two processes of one machine, which can pass descriptors.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use crate::{check, retry};

/// How many descriptors one send may pass.
pub const MAX_FDS: usize = 32;

/// Bytes of one descriptor in a control message.
const FD_BYTES: usize = mem::size_of::<RawFd>();

/// Room for one control message with [`MAX_FDS`] descriptors, aligned as a control message must be.
#[repr(C)]
union Control {
    header: libc::cmsghdr,
    bytes: [u8; CONTROL_BYTES],
}

// SAFETY: `CMSG_SPACE` computes with its argument and touches no memory.
const CONTROL_BYTES: usize = unsafe { libc::CMSG_SPACE((MAX_FDS * FD_BYTES) as u32) } as usize;

/// Flags of every send: never block, and `EPIPE` without SIGPIPE.
const SEND_FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// `socketpair(2)`: two connected stream sockets, closed on `exec`.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    #[cfg(not(target_vendor = "apple"))]
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    #[cfg(target_vendor = "apple")]
    let kind = libc::SOCK_STREAM;
    let mut fds = [-1; 2];
    // SAFETY: the array has room for the two descriptors that the call writes.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) })?;
    // SAFETY: the call has just made these descriptors, and nobody else knows them.
    let ends = unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) };
    #[cfg(target_vendor = "apple")]
    {
        crate::pipe::set_cloexec(ends.0.as_raw_fd())?;
        crate::pipe::set_cloexec(ends.1.as_raw_fd())?;
    }
    Ok(ends)
}

/// `send(2)`: sends as many of `bytes` as go at once. Never blocks.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    retry(|| {
        // SAFETY: pointer and length are those of a slice, which the call only reads.
        let count = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), SEND_FLAGS) };
        check(count).map(|count| count as usize)
    })
}

/// `sendmsg(2)` with `SCM_RIGHTS`: like [`send`], and passes copies of `fds` beside the first byte.
///
/// If any byte was sent, all descriptors were. There must be a byte, and at most [`MAX_FDS`] descriptors: `EINVAL`.
pub fn send_with_fds(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if fds.is_empty() {
        return send(socket, bytes);
    }
    if bytes.is_empty() || fds.len() > MAX_FDS {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut control = Control { bytes: [0; CONTROL_BYTES] };
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let payload = mem::size_of_val(fds) as u32;
    // SAFETY: all zeros is a valid msghdr: null pointers with zero lengths.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    // SAFETY: `CMSG_SPACE` and `CMSG_LEN` compute with their argument. `CMSG_FIRSTHDR` points into `control`, which is
    // aligned for a header and, as the length was checked above, has room for it and the descriptors; they are plain
    // integers, copied byte by byte.
    unsafe {
        message.msg_controllen = libc::CMSG_SPACE(payload) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(payload) as _;
        let data = libc::CMSG_DATA(header);
        for (index, fd) in fds.iter().enumerate() {
            let number = fd.as_raw_fd().to_ne_bytes();
            ptr::copy_nonoverlapping(number.as_ptr(), data.add(index * FD_BYTES), FD_BYTES);
        }
    }
    retry(|| {
        // SAFETY: everything that `message` points to lives in this function; the call only reads it.
        let count = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, SEND_FLAGS) };
        check(count).map(|count| count as usize)
    })
}

/// What one [`recv`] brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// How many bytes; 0 means that the other end is gone.
    pub bytes: usize,
    /// Whether descriptors were lost, because this process may not have as many.
    pub lost_fds: bool,
}

/// `recvmsg(2)`: receives what is there, descriptors included. Never blocks.
///
/// The descriptors of one send arrive together, with the first of its bytes; a receive does not go past them into the
/// next send. They are appended to `fds`, closed on `exec`.
pub fn recv(socket: BorrowedFd<'_>, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<Received> {
    #[cfg(not(target_vendor = "apple"))]
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    #[cfg(target_vendor = "apple")]
    let flags = libc::MSG_DONTWAIT;
    let mut control = Control { bytes: [0; CONTROL_BYTES] };
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeros is a valid msghdr: null pointers with zero lengths.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = CONTROL_BYTES as _;
    let bytes = retry(|| {
        // SAFETY: everything that `message` points to lives in this function or is the caller's buffer, which is
        // borrowed for us alone.
        let count = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
        check(count).map(|count| count as usize)
    })?;
    // SAFETY: `message` is as the kernel left it: its control length covers what it wrote to `control`.
    unsafe { take_fds(&message, fds) };
    #[cfg(target_vendor = "apple")]
    for fd in fds.iter() {
        crate::pipe::set_cloexec(fd.as_raw_fd())?;
    }
    Ok(Received { bytes, lost_fds: message.msg_flags & libc::MSG_CTRUNC != 0 })
}

/// Appends the descriptors in the control messages of `message` to `fds`.
///
/// # Safety
/// `message` must be as a successful `recvmsg(2)` left it, and this must be called once for it: it takes ownership of
/// the descriptors.
unsafe fn take_fds(message: &libc::msghdr, fds: &mut Vec<OwnedFd>) {
    // SAFETY: the kernel wrote whole control messages, and the macros walk over them by the lengths it gave. The
    // descriptors are new, and the caller promises that nobody else takes them.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while let Some(control) = header.as_ref() {
            if control.cmsg_level == libc::SOL_SOCKET && control.cmsg_type == libc::SCM_RIGHTS {
                #[allow(clippy::unnecessary_cast)] // its type differs from system to system
                let bytes = control.cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let data = libc::CMSG_DATA(header);
                for index in 0..bytes / FD_BYTES {
                    let mut number = [0; FD_BYTES];
                    ptr::copy_nonoverlapping(data.add(index * FD_BYTES), number.as_mut_ptr(), FD_BYTES);
                    fds.push(OwnedFd::from_raw_fd(RawFd::from_ne_bytes(number)));
                }
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
}
