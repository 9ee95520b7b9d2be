"""Where the record lives: one module for each kind of store. No decisions here."""
