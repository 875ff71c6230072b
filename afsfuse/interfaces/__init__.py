"""The RPC interfaces of AFS, one module for each: structures and procedures, declared once."""
