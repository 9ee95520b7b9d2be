"""The register in a SQL database: SQLite, PostgreSQL, MySQL and MariaDB."""
