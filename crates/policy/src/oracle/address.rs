//! Blocks of addresses, by the words of `IPBlock`.
use std::net::IpAddr;

use ipnet::IpNet;

/// Whether the address is in the range and in none of the holes; `Err` when the text is no valid block.
/// "Except values will be rejected if they are outside the cidr range."
pub fn in_block(address: IpAddr, cidr: &str, except: &[String]) -> Result<bool, ()> {
    let range: IpNet = cidr.parse().map_err(|_| ())?;
    let mut inside = range.contains(&address);
    for hole in except {
        let hole: IpNet = hole.parse().map_err(|_| ())?;
        let is_part = range.contains(&hole.network())
            && range.contains(&hole.broadcast())
            && hole.prefix_len() > range.prefix_len();
        if !is_part {
            return Err(());
        }
        inside &= !hole.contains(&address);
    }
    Ok(inside)
}
