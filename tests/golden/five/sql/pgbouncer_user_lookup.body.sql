
  SELECT r.rolname::pg_catalog.text, r.rolpassword
    FROM pg_catalog.pg_authid AS r
   WHERE r.rolname OPERATOR(pg_catalog.=) i_username::pg_catalog.name
     AND r.rolcanlogin
     AND (r.rolvaliduntil IS NULL OR r.rolvaliduntil OPERATOR(pg_catalog.>) pg_catalog.now())
     AND r.rolpassword LIKE 'SCRAM-SHA-256$%'
     AND (r.rolname OPERATOR(pg_catalog.=) 'dba' OR NOT (r.rolsuper OR r.rolreplication))
