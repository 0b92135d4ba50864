//! Figures of the web server -> their part of `/metrics`.

use crate::metrics::Exposition;
use crate::metrics::table;
use crate::server::FiguresNow;

/// Writes them; those of the file only if there is one.
pub(super) fn write(out: &mut Exposition, web: &FiguresNow) {
    out.sample(&table::WEB_CONNECTIONS, &[], web.connections as f64);
    out.sample(&table::WEB_EVICTED, &[], web.evicted as f64);
    let Some(is_loaded) = web.is_loaded else {
        return;
    };
    let is_loaded = f64::from(u8::from(is_loaded));
    out.sample(&table::WEB_CONFIG_SUCCESSFUL, &[], is_loaded);
    out.sample(&table::WEB_CONFIG_TIME, &[], web.loaded_ms as f64 / 1e3);
    if let Some(expires_s) = web.certificate_expires_s {
        out.sample(&table::WEB_CERTIFICATE_EXPIRY, &[], expires_s as f64);
    }
    for (result, count) in web.handshakes {
        out.sample(&table::WEB_HANDSHAKES, &[("result", result)], count as f64);
    }
    for (cause, count) in web.unauthorized {
        out.sample(&table::WEB_UNAUTHORIZED, &[("cause", cause)], count as f64);
    }
}
