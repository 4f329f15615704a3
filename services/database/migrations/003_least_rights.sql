-- Each role has what its service's queries name, and no way to make anything of its own.
REVOKE ALL ON DATABASE shop FROM PUBLIC;
GRANT CONNECT ON DATABASE shop TO product, orders, monitoring;
DO $$
DECLARE other text;
BEGIN
    FOR other IN SELECT datname FROM pg_database WHERE datname <> 'shop' AND datallowconn LOOP
        EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', other);
    END LOOP;
END $$;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;

REVOKE SELECT ON products FROM orders;
GRANT SELECT (id, price, stock) ON products TO orders;

REVOKE INSERT ON orders FROM orders;
GRANT INSERT (customer_id, product_id, quantity, total_price, idempotency_key, fingerprint)
    ON orders TO orders;

ALTER ROLE product CONNECTION LIMIT 16;
ALTER ROLE orders CONNECTION LIMIT 16;
