//! Config maps, secrets, service accounts.

use super::{Printer, age, column::Column, count, name};
use crate::auth::fields::text;

const DATA: Column = Column::number("Data", "The number of entries.");

pub(super) const CONFIG_MAPS: Printer = Printer {
    columns: &[Column::NAME, DATA, Column::AGE],
    cells: |map, now| {
        vec![
            name(map),
            (count(map, "/data") + count(map, "/binaryData")).into(),
            age::created(map, now),
        ]
    },
};

pub(super) const SECRETS: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("Type", "What the secret is for."),
        DATA,
        Column::AGE,
    ],
    cells: |secret, now| {
        vec![
            name(secret),
            text(secret, "/type").into(),
            count(secret, "/data").into(),
            age::created(secret, now),
        ]
    },
};

pub(super) const SERVICE_ACCOUNTS: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::number("Secrets", "The number of secrets its pods may use."),
        Column::AGE,
    ],
    cells: |account, now| {
        vec![
            name(account),
            count(account, "/secrets").into(),
            age::created(account, now),
        ]
    },
};
