CREATE TABLE orders (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id     text NOT NULL,
    product_id      integer NOT NULL REFERENCES products (id),
    quantity        integer NOT NULL CHECK (quantity > 0),
    total_price     numeric(14, 2) NOT NULL CHECK (total_price >= 0),
    status          text NOT NULL DEFAULT 'created',
    idempotency_key text UNIQUE,
    fingerprint     bytea NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX orders_of_customer ON orders (customer_id, id DESC);

GRANT SELECT, INSERT ON orders TO orders;
