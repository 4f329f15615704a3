CREATE TABLE products (
    id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sku         text NOT NULL UNIQUE,
    name        text NOT NULL,
    description text NOT NULL,
    price       numeric(12, 2) NOT NULL CHECK (price >= 0),
    stock       integer NOT NULL CHECK (stock >= 0)
);

GRANT SELECT ON products TO product;
GRANT SELECT ON products TO orders;
GRANT UPDATE (stock) ON products TO orders;

INSERT INTO products (sku, name, description, price, stock) VALUES
    ('KEY-060', 'Mechanical keyboard', 'Sixty keys, brown switches, USB-C', 89.90, 1000),
    ('MOU-001', 'Vertical mouse', 'Six buttons, for the right hand', 39.50, 1000),
    ('MON-027', 'Monitor 27"', '2560 × 1440, height-adjustable', 279.00, 500),
    ('CAB-C2M', 'USB-C cable 2 m', '100 W, braided', 14.95, 5000),
    ('DOC-011', 'Docking station', 'Eleven ports, two displays', 149.00, 300),
    ('HEA-120', 'Headphones', 'Closed, wired, 1.2 m', 119.00, 400),
    ('CAM-108', 'Web camera', '1080p with a shutter', 64.00, 600),
    ('SSD-1TB', 'SSD 1 TB', 'NVMe, 3,500 MB/s', 84.00, 800),
    ('LAP-STD', 'Laptop stand', 'Aluminium, folds flat', 34.90, 900),
    ('BAG-015', 'Laptop bag 15"', 'Water-repellent', 49.00, 700);
