"""`presspool bench secagg`: what a secure sum costs above a plain one."""
