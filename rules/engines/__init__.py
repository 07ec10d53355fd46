"""SG2xx: how engines are built, and what a transaction pooler needs of them."""
