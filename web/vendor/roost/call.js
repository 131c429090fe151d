import { asRoostError, mayRetry } from './errors.js';
const TRIES = 5; // the Centrifuge client waits some seconds for a connection each time
/** Calls an operation that may be done twice. If the connection is lost meanwhile it is called again. */
export async function callAgain(centrifuge, method, params, tries = TRIES) {
    for (let left = tries;; left--) {
        try {
            return (await centrifuge.rpc(method, params)).data;
        }
        catch (error) {
            if (left <= 1 || !mayRetry(error) || centrifuge.state === 'disconnected')
                throw asRoostError(error);
        }
    }
}
