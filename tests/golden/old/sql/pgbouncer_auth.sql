-- What PgBouncer's auth query needs, in the database postgres, run by the superuser in one transaction. Safe to repeat.
-- The role pgbouncer_auth is there already. What drifts shows in pg_proc: prosrc is exactly the rendered
-- pgbouncer_user_lookup.body.sql; then prosecdef, proconfig, proowner, proacl, and the schema's nspowner and nspacl.
CREATE SCHEMA IF NOT EXISTS pgbouncer;
ALTER SCHEMA pgbouncer OWNER TO "root";
REVOKE ALL ON SCHEMA pgbouncer FROM PUBLIC;
GRANT USAGE ON SCHEMA pgbouncer TO pgbouncer_auth;
-- dropped first: CREATE OR REPLACE would refuse another result type and keep rights that do not belong there
DROP FUNCTION IF EXISTS pgbouncer.user_lookup(pg_catalog.text);
CREATE FUNCTION pgbouncer.user_lookup(i_username pg_catalog.text, OUT uname pg_catalog.text, OUT phash pg_catalog.text)
  RETURNS SETOF record
  LANGUAGE sql STABLE SECURITY DEFINER
  SET search_path = pg_catalog, pg_temp
AS $kbpg$
  SELECT r.rolname::pg_catalog.text, r.rolpassword
    FROM pg_catalog.pg_authid AS r
   WHERE r.rolname OPERATOR(pg_catalog.=) i_username::pg_catalog.name
     AND r.rolcanlogin
     AND (r.rolvaliduntil IS NULL OR r.rolvaliduntil OPERATOR(pg_catalog.>) pg_catalog.now())
     AND r.rolpassword LIKE 'SCRAM-SHA-256$%'
     AND NOT (r.rolsuper OR r.rolreplication)
$kbpg$;
ALTER FUNCTION pgbouncer.user_lookup(pg_catalog.text) OWNER TO "root";
REVOKE ALL ON FUNCTION pgbouncer.user_lookup(pg_catalog.text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgbouncer.user_lookup(pg_catalog.text) TO pgbouncer_auth;
