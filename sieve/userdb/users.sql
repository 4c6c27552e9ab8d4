-- Users with settings of their own; NULL is not set. For sql-2.3.conf.ext and sql-2.4.conf.
CREATE TABLE users (
  username        VARCHAR(200) NOT NULL PRIMARY KEY,
  home            VARCHAR(200) NOT NULL,
  uid             INTEGER NOT NULL,
  gid             INTEGER NOT NULL,
  key_file        VARCHAR(200),
  protect_headers VARCHAR(10),
  sealing         VARCHAR(3) NOT NULL DEFAULT 'on'
);
