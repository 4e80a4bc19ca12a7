//! The Container Network Interface: types of every version, the plugin's protocol, and the runtime's side.
