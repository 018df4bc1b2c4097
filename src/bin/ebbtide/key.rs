//! A key as it is typed.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::escape::unhex;
use crate::failure::Failure;

/// The bytes of a key: those typed, or those the hexadecimal digits typed stand for.
pub(crate) fn read(typed: &OsStr, is_hex: bool) -> Result<Vec<u8>, Failure> {
    if !is_hex {
        return Ok(typed.as_bytes().to_vec());
    }
    let wrong = || Failure::usage("the key is not a whole number of hexadecimal pairs");
    typed.to_str().and_then(unhex).ok_or_else(wrong)
}
