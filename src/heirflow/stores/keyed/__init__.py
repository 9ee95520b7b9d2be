"""Stores in which the record is a key of a coordinator that is already there: ZooKeeper, etcd, Consul. No decisions here."""
