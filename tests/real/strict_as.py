"""A strict OAuth 2.0 authorization server on Authlib + Flask, in memory: checks client secret, redirect URI, PKCE, one-time codes;
rotates refresh tokens and revokes the family when an old one is used again. Login page with a form, for a real browser leg.
usage: strict_as.py PORT ACCESS_TTL REDIRECT      client id/secret: sync / s3cret, user u / p"""
import os, sys, time
os.environ['AUTHLIB_INSECURE_TRANSPORT'] = '1'
from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import grants, ClientMixin, TokenMixin, AuthorizationCodeMixin
from authlib.oauth2.rfc7636 import CodeChallenge
from flask import Flask, request
TTL, REDIRECT = int(sys.argv[2]), sys.argv[3]
app = Flask(__name__); app.secret_key = 'x'
class User:
    def get_user_id(self): return 'u'
class Client(ClientMixin):
    client_id = 'sync'
    def get_client_id(self): return 'sync'
    def get_default_redirect_uri(self): return REDIRECT
    def get_allowed_scope(self, scope): return scope or ''
    def check_redirect_uri(self, uri): return uri == REDIRECT
    def check_client_secret(self, s): return s == 's3cret'
    def check_endpoint_auth_method(self, m, ep): return m in ('client_secret_basic', 'client_secret_post')
    def check_response_type(self, t): return t == 'code'
    def check_grant_type(self, t): return t in ('authorization_code', 'refresh_token')
class Code(AuthorizationCodeMixin):
    def __init__(s, **k): s.__dict__.update(k, nonce=None, auth_time=int(time.time()))
    def get_redirect_uri(s): return s.redirect_uri
    def get_scope(s): return s.scope
    def is_expired(s): return time.time() - s.auth_time > 60
class Token(TokenMixin):
    def __init__(s, t): s.t = t; s.at = time.time(); s.used = False; s.family = t.get('family')
    def check_client(s, c): return True
    def get_scope(s): return s.t.get('scope', '')
    def get_expires_in(s): return s.t['expires_in']
    def is_expired(s): return time.time() - s.at > s.t['expires_in']
    def is_revoked(s): return s.family in dead
CODES, REFRESH, ACCESS, dead = {}, {}, {}, set()
class ACode(grants.AuthorizationCodeGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ['client_secret_basic', 'client_secret_post']
    def save_authorization_code(self, code, req):
        p = req.payload
        c = Code(code=code, client_id='sync', redirect_uri=p.redirect_uri, scope=p.scope, code_challenge=p.data.get('code_challenge'), code_challenge_method=p.data.get('code_challenge_method')); CODES[code] = c; return c
    def query_authorization_code(self, code, client): return CODES.get(code)
    def delete_authorization_code(self, c): CODES.pop(c.code, None)
    def authenticate_user(self, c): return User()
class Refresh(grants.RefreshTokenGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ACode.TOKEN_ENDPOINT_AUTH_METHODS; INCLUDE_NEW_REFRESH_TOKEN = True
    def authenticate_refresh_token(self, rt):
        t = REFRESH.get(rt)
        if not t or t.is_revoked(): return None
        if t.used: dead.add(t.family); return None          # reuse: the whole family dies
        self.request.family = t.family; return t
    def authenticate_user(self, t): return User()
    def revoke_old_credential(self, t): t.used = True
def save_token(t, req):
    t = dict(t); t['family'] = getattr(req, 'family', None) or t.get('refresh_token'); o = Token(t); ACCESS[t['access_token']] = o
    if t.get('refresh_token'): REFRESH[t['refresh_token']] = o
app.config['OAUTH2_REFRESH_TOKEN_GENERATOR'] = True; app.config['OAUTH2_TOKEN_EXPIRES_IN'] = {'authorization_code': TTL, 'refresh_token': TTL}
srv = AuthorizationServer(app, query_client=lambda i: Client() if i == 'sync' else None, save_token=save_token)
srv.register_grant(ACode, [CodeChallenge(required=True)]); srv.register_grant(Refresh)
@app.route('/authorize', methods=['GET', 'POST'])
def authorize():
    grant = srv.get_consent_grant(end_user=User())
    if request.method == 'POST' and request.form.get('user') == 'u' and request.form.get('password') == 'p':
        return srv.create_authorization_response(grant_user=User(), grant=grant)
    return '<!doctype html><title>Sign in</title><form method=post><input name=user aria-label=user><input name=password type=password aria-label=password><button>Allow</button></form>'
@app.post('/token')
def token(): return srv.create_token_response()
@app.get('/api/me')
def me():
    t = ACCESS.get(request.headers.get('Authorization', '')[7:])
    return ({'ok': True}, 200) if t and not t.is_expired() and not t.is_revoked() else ({'error': 'invalid_token'}, 401)
app.run('127.0.0.1', int(sys.argv[1]))
