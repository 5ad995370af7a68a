-- For wrk: the request headers of a browser (ten with Host, which wrk adds), and the outcome as JSON.

wrk.headers["User-Agent"] =
  "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
wrk.headers["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
wrk.headers["Accept-Language"] = "en-US,en;q=0.5"
wrk.headers["Accept-Encoding"] = "gzip, deflate, br"
wrk.headers["Connection"] = "keep-alive"
wrk.headers["Referer"] = "http://localhost/articles/"
wrk.headers["Cookie"] = "sessionid=3q2yqvrn5mzs1b9kxh8dm4k0rj1g7c2f; csrftoken=Zx8fP0uQm3Vb7LrTn2Ks"
wrk.headers["Upgrade-Insecure-Requests"] = "1"
wrk.headers["Priority"] = "u=0, i"

function done(summary, latency, requests)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format(
    '\nOUTCOME {"requests": %d, "seconds": %.6f, "failed": %d, "p50_ms": %.3f, "p99_ms": %.3f}\n',
    summary.requests, summary.duration / 1e6, failed,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
