//! The record of a call into libpam.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Caller;

/// The most of one string that a login record holds, in bytes, its closing zero included.
pub const LOGIN_TEXT: usize = 256;

/// Which function was called, or returned.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginCall {
    /// `pam_start(service, user, ...)`: `text` is the service, `user` the user (empty if not yet known).
    Start = 1,
    /// `pam_set_item(handle, item, value)`: `value` is the item's number (`PAM_USER` 2, `PAM_TTY` 3, `PAM_RHOST` 4,
    /// `PAM_RUSER` 8), `text` its string.
    SetItem = 2,
    /// `pam_authenticate` returned `value` (0 is success, 7 `PAM_AUTH_ERR`, 10 `PAM_USER_UNKNOWN`).
    Authenticated = 3,
    /// `pam_acct_mgmt` returned `value`.
    AccountChecked = 4,
    /// `pam_open_session` was called: the process carries its entry mark from here on.
    OpenSession = 5,
    /// `pam_open_session` returned `value`.
    SessionOpened = 6,
    /// `pam_close_session` was called.
    CloseSession = 7,
}

/// What a login record carries.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct LoginBody {
    /// Who called.
    pub caller: Caller,
    /// A [`LoginCall`].
    pub call: u32,
    /// See [`LoginCall`].
    pub value: i32,
    /// See [`LoginCall`]; ended by a zero byte, cut if longer.
    pub text: [u8; LOGIN_TEXT],
    /// See [`LoginCall`].
    pub user: [u8; LOGIN_TEXT],
}
