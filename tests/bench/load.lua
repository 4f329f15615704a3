-- For wrk: plain GETs, or orders, each with a key of its own; one line of JSON at the end.
-- Arguments: method, and the customer whose orders are counted afterwards.
local count = 0
local customer

function init(args)
    wrk.method, customer = args[1], args[2]
    if wrk.method == "POST" then
        wrk.headers["Content-Type"] = "application/json"
        request = order
    end
end

function order()
    count = count + 1
    wrk.headers["Idempotency-Key"] = customer .. "-" .. count
    return wrk.format(nil, nil, nil, string.format(
        '{"customer_id": "%s", "product_id": %d, "quantity": 1}', customer, count % 10 + 1))
end

function done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        '{"requests": %d, "duration_us": %d, "refused": %d, "lost": %d, "p50_us": %d, "p99_us": %d}\n',
        summary.requests, summary.duration, errors.status,
        errors.connect + errors.read + errors.write + errors.timeout,
        latency:percentile(50), latency:percentile(99)))
end
